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
}

static __always_inline void irq_exit_rcu(void)
{
	current->hardirq_context--;
	current->preempt_count -= HARDIRQ_OFFSET;
}

#endif
