/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions that other CPUs call in an interrupt. Mirrors include/linux/smp.h. */
#ifndef _ASM_SMP_H
#define _ASM_SMP_H

#include <linux/sched.h>

typedef void (*smp_call_func_t)(void *info);
typedef bool (*smp_cond_func_t)(int cpu, void *info);

/* On each CPU of `mask` that `cond` (NULL: any) agrees to; returns when all have done it. Preemption is disabled. */
void on_each_cpu_cond_mask(smp_cond_func_t cond, smp_call_func_t func, void *info, unsigned long mask);

#endif
