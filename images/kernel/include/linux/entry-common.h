/* SPDX-License-Identifier: GPL-2.0-only */
/* The way back to user mode. Mirrors include/linux/irq-entry-common.h: of the exit work only signals. */
#ifndef _LINUX_ENTRY_COMMON_H
#define _LINUX_ENTRY_COMMON_H

#include <linux/sched.h>

/* kcall: a task that was killed ends here */
void arch_do_signal_or_restart(struct pt_regs *regs);

static __always_inline void exit_to_user_mode_prepare(struct pt_regs *regs)
{
	if (unlikely(READ_ONCE(current->thread_info_flags) & 1UL << TIF_SIGPENDING))
		arch_do_signal_or_restart(regs);
}

#endif
