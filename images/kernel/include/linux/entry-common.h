/* SPDX-License-Identifier: GPL-2.0-only */
/* The way back to user mode. Mirrors include/linux/irq-entry-common.h: of the exit work only signals and preemption. */
#ifndef _LINUX_ENTRY_COMMON_H
#define _LINUX_ENTRY_COMMON_H

#include <linux/lockdep.h>
#include <linux/signal.h>

/* arch/: hands a signal that waits to its handler; a task that was killed ends here */
void arch_do_signal_or_restart(struct pt_regs *regs);

#define EXIT_TO_USER_MODE_WORK (1UL << TIF_SIGPENDING | 1UL << TIF_NEED_RESCHED)

/* kernel/entry/common.c */
void exit_to_user_mode_loop(struct pt_regs *regs, unsigned long ti_work);

static __always_inline void exit_to_user_mode_prepare(struct pt_regs *regs)
{
	unsigned long ti_work = READ_ONCE(current->thread_info_flags);

	if (unlikely(ti_work & EXIT_TO_USER_MODE_WORK))
		exit_to_user_mode_loop(regs, ti_work);
	if (unlikely(kernel_features.prove_locking)) {
		if (current->lockdep_depth)
			lockdep_sys_exit();
		lockdep_hardirqs_on_prepare();
		lockdep_hardirqs_on(_THIS_IP_);
	}
}

/* The CPU has disabled interrupts on the way in. */
static __always_inline void enter_from_user_mode(void)
{
	trace_hardirqs_off();
}

#endif
