/* SPDX-License-Identifier: GPL-2.0-only */
/* Masking of interrupts that is undone later, and asking for it. Mirrors asm/irqflags.h. */
#ifndef _ASM_IRQFLAGS_H
#define _ASM_IRQFLAGS_H

#include <asm/ptrace.h>

static __always_inline unsigned long arch_local_save_flags(void)
{
	unsigned long flags;

	__asm__ __volatile__("pushfq\n\tpopq %0" : "=r"(flags) :: "memory");
	return flags;
}

static __always_inline bool arch_irqs_disabled_flags(unsigned long flags)
{
	return !(flags & X86_EFLAGS_IF);
}

static __always_inline void arch_local_irq_restore(unsigned long flags)
{
	if (!arch_irqs_disabled_flags(flags))
		raw_local_irq_enable();
}

/* this instruction's address */
#define _THIS_IP_ \
	({ unsigned long __ip; __asm__ __volatile__("leaq 0(%%rip), %0" : "=r"(__ip)); __ip; })

#endif
