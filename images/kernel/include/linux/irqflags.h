/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Masking interrupts, with lockdep told of it. Mirrors include/linux/irqflags.h (CONFIG_TRACE_IRQFLAGS): what is
 * recorded is only looked at by reports, except that locks held while interrupts are enabled are marked.
 */
#ifndef _LINUX_IRQFLAGS_H
#define _LINUX_IRQFLAGS_H

#include <linux/sched.h>
#include <asm/irqflags.h>

/* kernel/locking/lockdep.c */
void lockdep_hardirqs_on_prepare(void);
void lockdep_hardirqs_on(unsigned long ip);
void (trace_hardirqs_on)(void);
void lockdep_hardirqs_off(unsigned long ip);

#define irqs_disabled() arch_irqs_disabled_flags(arch_local_save_flags())
#define trace_hardirqs_on() \
	do { if (unlikely(kernel_features.prove_locking)) (trace_hardirqs_on)(); } while (0)
#define trace_hardirqs_off() \
	do { if (unlikely(kernel_features.prove_locking)) lockdep_hardirqs_off(_THIS_IP_); } while (0)

static __always_inline void local_irq_enable(void)
{
	trace_hardirqs_on();
	raw_local_irq_enable();
}

static __always_inline void local_irq_disable(void)
{
	raw_local_irq_disable();
	trace_hardirqs_off();
}

static __always_inline unsigned long local_irq_save(void)
{
	unsigned long flags = arch_local_save_flags();

	raw_local_irq_disable();
	if (!arch_irqs_disabled_flags(flags))
		trace_hardirqs_off();
	return flags;
}

static __always_inline void local_irq_restore(unsigned long flags)
{
	if (!arch_irqs_disabled_flags(flags))
		trace_hardirqs_on();
	arch_local_irq_restore(flags);
}

#endif
