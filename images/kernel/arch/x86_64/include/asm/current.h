/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU variables by %gs: gs base + symbol address. Mirrors arch/x86/include/asm/percpu.h and current.h. */
#ifndef _ASM_CURRENT_H
#define _ASM_CURRENT_H

#include <asm/ptrace.h>

#define __seg_gs_ptr __attribute__((address_space(256)))
#define this_cpu_read(var) (*(volatile __typeof__(var) __seg_gs_ptr *)(uintptr_t)&(var))
#define this_cpu_write(var, v) (*(volatile __typeof__(var) __seg_gs_ptr *)(uintptr_t)&(var) = (v))

#include <linux/percpu.h>

#endif
