/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU variables: symbol address + TPIDR_EL1. Mirrors arch/arm64/include/asm/percpu.h. */
#ifndef _ASM_CURRENT_H
#define _ASM_CURRENT_H

#include <asm/ptrace.h>

#define this_cpu_ptr(ptr) ((__typeof__(ptr))((uintptr_t)(ptr) + read_sysreg(tpidr_el1)))
#define this_cpu_read(var) (*(volatile __typeof__(var) *)this_cpu_ptr(&(var)))
#define this_cpu_write(var, v) (*(volatile __typeof__(var) *)this_cpu_ptr(&(var)) = (v))

#include <linux/percpu.h>

#endif
