/* SPDX-License-Identifier: GPL-2.0-only */
/* Where a hard interrupt's handler begins and ends. Mirrors include/linux/hardirq.h; softirqs do not run. */
#ifndef _LINUX_HARDIRQ_H
#define _LINUX_HARDIRQ_H

#include <linux/sched.h>

#define HARDIRQ_OFFSET 0x10000

static __always_inline void irq_enter_rcu(void)
{
	current->preempt_count += HARDIRQ_OFFSET;
	current->hardirq_context++;
	barrier();
}

static __always_inline void irq_exit_rcu(void)
{
	barrier();
	current->hardirq_context--;
	current->preempt_count -= HARDIRQ_OFFSET;
}

/* kernel/time/hrtimer.c: the clock event device of this CPU has fired */
void hrtimer_interrupt(void);

#endif
