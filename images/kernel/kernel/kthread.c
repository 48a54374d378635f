// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where kernel threads begin: the frame under a thread's own function. Mirrors kernel/kthread.c:kthread().
 * Left out: parking, stopping, the creator's completion.
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
