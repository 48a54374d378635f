/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU variables by %gs: gs base + symbol address. Mirrors arch/x86/include/asm/percpu.h and current.h. */
#ifndef _ASM_CURRENT_H
#define _ASM_CURRENT_H

#include <asm/ptrace.h>

#define __seg_gs_ptr __attribute__((address_space(256)))
#define DEFINE_PER_CPU(type, name) __section(".data..percpu") __used type name
#define DECLARE_PER_CPU(type, name) extern __section(".data..percpu") type name
#define this_cpu_read(var) (*(volatile __typeof__(var) __seg_gs_ptr *)(uintptr_t)&(var))
#define this_cpu_write(var, v) (*(volatile __typeof__(var) __seg_gs_ptr *)(uintptr_t)&(var) = (v))

struct task_struct;
DECLARE_PER_CPU(struct task_struct *, current_task);
DECLARE_PER_CPU(int, cpu_number);
#define current this_cpu_read(current_task)
#define raw_smp_processor_id() this_cpu_read(cpu_number)

#endif
