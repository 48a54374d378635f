// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where kernel threads begin: the frame under a thread's own function. Mirrors kernel/kthread.c:kthread().
 * Left out: parking, stopping, the creator's completion.
 */
#include <linux/syscalls.h>

struct kthread_create_info {
	int (*threadfn)(void *data);
	void *data;
};

static __frame __noreturn void kthread_exit(int result)
{
	do_exit(result);
}

__used __frame int kthread(void *_create)
{
	struct kthread_create_info *create = _create;

	kthread_exit(create->threadfn(create->data));
}
