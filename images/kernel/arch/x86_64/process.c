// SPDX-License-Identifier: GPL-2.0-only
/* The first frame of a new task. Mirrors arch/x86/kernel/process.c:ret_from_fork(). */
#include <linux/entry-common.h>

__used __frame void ret_from_fork(struct pt_regs *regs, int (*fn)(void *), void *fn_arg)
{
	if (fn) {
		fn(fn_arg);
		do_group_exit(0);
	}
	/* a signal may have come before it ever ran */
	local_irq_disable();
	exit_to_user_mode_prepare(regs);
}
