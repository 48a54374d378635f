// SPDX-License-Identifier: GPL-2.0-only
/* Mirrors arch/arm64/kernel/smp.c:arch_irq_work_raise(). There is no interrupt controller: the work waits for idle. */
#include <linux/bpf.h>

void arch_irq_work_raise(void)
{
}
