/* SPDX-License-Identifier: GPL-2.0-only */
/* Masking of interrupts that is undone later, and asking for it. Mirrors asm/irqflags.h. */
#ifndef _ASM_IRQFLAGS_H
#define _ASM_IRQFLAGS_H

#include <asm/ptrace.h>

#define PSR_I_BIT 0x80UL

static __always_inline unsigned long arch_local_save_flags(void)
{
	return read_sysreg(daif);
}

static __always_inline bool arch_irqs_disabled_flags(unsigned long flags)
{
	return flags & PSR_I_BIT;
}

static __always_inline void arch_local_irq_restore(unsigned long flags)
{
	__asm__ __volatile__("msr daif, %0" :: "r"(flags) : "memory");
}

/* this instruction's address */
#define _THIS_IP_ ({ unsigned long __ip; __asm__ __volatile__("adr %0, ." : "=r"(__ip)); __ip; })

#endif
