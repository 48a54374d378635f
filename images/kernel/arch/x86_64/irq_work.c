// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interrupt a CPU sends itself. Mirrors arch/x86/kernel/irq_work.c. There is no local APIC: the instruction that
 * raises the interrupt is one that has its effect.
 */
#include <linux/bpf.h>
#include <linux/irqflags.h>
#include <asm/idtentry.h>

__aligned(4096) char irq_stacks[NR_CPUS][IRQ_STACK_SIZE];

__frame void arch_irq_work_raise(void)
{
	if (!irqs_disabled())
		__asm__ __volatile__("int $0xf6" ::: "memory");	/* IRQ_WORK_VECTOR */
}

DEFINE_IDTENTRY_SYSVEC(sysvec_irq_work)
{
	(void)regs;
	irq_work_run();
}
