// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where kernel threads begin. Mirrors kernel/kthread.c:kthread() and arch/x86/kernel/process.c:ret_from_fork():
 * the frames under a kernel thread's own function. Left out: parking, stopping, the creator's completion.
 */
#include <linux/sched.h>

struct kthread_create_info {
	int (*threadfn)(void *data);
	void *data;
};

__used __frame int kthread(void *_create)
{
	struct kthread_create_info *create = _create;

	do_group_exit(create->threadfn(create->data));
}

__used __frame void ret_from_fork(int (*fn)(void *), void *fn_arg)
{
	fn(fn_arg);
	do_group_exit(0);
}
