// SPDX-License-Identifier: GPL-2.0-only
/* The first frame of a new kernel thread. Mirrors arch/x86/kernel/process.c:ret_from_fork(). */
#include <linux/sched.h>

__used __frame void ret_from_fork(int (*fn)(void *), void *fn_arg)
{
	fn(fn_arg);
	do_group_exit(0);
}
