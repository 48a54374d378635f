// SPDX-License-Identifier: GPL-2.0-only
/* Work before user mode goes on. Mirrors kernel/entry/common.c. */
#include <linux/entry-common.h>

/* Interrupts are disabled when it is called and when it returns. */
__frame void exit_to_user_mode_loop(struct pt_regs *regs, unsigned long ti_work)
{
	while (ti_work & EXIT_TO_USER_MODE_WORK) {
		local_irq_enable();
		if (ti_work & 1UL << TIF_NEED_RESCHED)
			schedule();
		if (ti_work & 1UL << TIF_SIGPENDING)
			arch_do_signal_or_restart(regs);
		local_irq_disable();
		ti_work = READ_ONCE(current->thread_info_flags);
	}
}
