/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Per-CPU variables by name. Mirrors include/linux/percpu-defs.h; asm/current.h says how a CPU reaches its own and
 * includes this.
 */
#ifndef _LINUX_PERCPU_H
#define _LINUX_PERCPU_H

#define DEFINE_PER_CPU(type, name) __section(".data..percpu") __used type name
#define DECLARE_PER_CPU(type, name) extern __section(".data..percpu") type name

struct task_struct;
DECLARE_PER_CPU(struct task_struct *, current_task);
DECLARE_PER_CPU(int, cpu_number);
#define current this_cpu_read(current_task)
#define raw_smp_processor_id() this_cpu_read(cpu_number)

#endif
