/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU variables: symbol address + TPIDR_EL1. Mirrors arch/arm64/include/asm/percpu.h. */
#ifndef _ASM_CURRENT_H
#define _ASM_CURRENT_H

#include <asm/ptrace.h>

#define DEFINE_PER_CPU(type, name) __section(".data..percpu") __used type name
#define DECLARE_PER_CPU(type, name) extern __section(".data..percpu") type name
#define this_cpu_ptr(ptr) ((__typeof__(ptr))((uintptr_t)(ptr) + read_sysreg(tpidr_el1)))
#define this_cpu_read(var) (*(volatile __typeof__(var) *)this_cpu_ptr(&(var)))
#define this_cpu_write(var, v) (*(volatile __typeof__(var) *)this_cpu_ptr(&(var)) = (v))

struct task_struct;
DECLARE_PER_CPU(struct task_struct *, current_task);
DECLARE_PER_CPU(int, cpu_number);
#define current this_cpu_read(current_task)
#define raw_smp_processor_id() this_cpu_read(cpu_number)

#endif
