// SPDX-License-Identifier: GPL-2.0-only
/*
 * Completions. Mirrors kernel/sched/completion.c and swait.c of 6.18. Decision points are those of its spinlock
 * (before and after), of its wake-ups (with that lock held) and of sleeping.
 */
#include <linux/completion.h>
#include <linux/list.h>
#include <linux/sched/timeout.h>
#include <linux/spinlock.h>

#define UINT_MAX (~0U)
#define ERESTARTSYS 512
#define WAIT_FOR_COMMON_LINE 116	/* where Linux 6.18 has its might_sleep() */

struct swait_queue {
	struct task_struct *task;
	struct list_head task_list;
};

void init_completion(struct completion *x)
{
	static struct lock_class_key key;

	memset(x, 0, sizeof(*x));
	INIT_LIST_HEAD(&x->wait.task_list);
	x->wait.lock.dep_map.key = &key;
	x->wait.lock.dep_map.name = "&x->wait";
	x->wait.lock.dep_map.wait_type_inner = LD_WAIT_SPIN;
}

static __always_inline void swake_up_locked(struct swait_queue_head *q)
{
	struct swait_queue *first = list_first_entry(&q->task_list, struct swait_queue, task_list);

	wake_up_process(first->task);
	list_del_init(&first->task_list);
}

__frame void complete(struct completion *x)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&x->wait.lock, flags);
	if (x->done != UINT_MAX)
		x->done++;
	if (!list_empty(&x->wait.task_list))
		swake_up_locked(&x->wait);
	raw_spin_unlock_irqrestore(&x->wait.lock, flags);
}

__frame void complete_all(struct completion *x)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&x->wait.lock, flags);
	x->done = UINT_MAX;
	while (!list_empty(&x->wait.task_list))
		swake_up_locked(&x->wait);
	raw_spin_unlock_irqrestore(&x->wait.lock, flags);
}

/* With the lock held; what is left of `timeout`, at least 1 where it is done, 0 or -ERESTARTSYS */
static __always_inline long do_wait_for_common(struct completion *x, long timeout, unsigned int state)
{
	struct swait_queue wait;

	if (!x->done) {
		wait.task = current;
		INIT_LIST_HEAD(&wait.task_list);
		do {
			if (signal_pending_state(state, current)) {
				timeout = -ERESTARTSYS;
				break;
			}
			if (list_empty(&wait.task_list))
				list_add_tail(&wait.task_list, &x->wait.task_list);
			__set_current_state(state);
			raw_spin_unlock_irq(&x->wait.lock);
			timeout = schedule_timeout(timeout);
			raw_spin_lock_irq(&x->wait.lock);
		} while (!x->done && timeout);
		__set_current_state(TASK_RUNNING);
		if (!list_empty(&wait.task_list))
			list_del_init(&wait.task_list);
		if (!x->done)
			return timeout;
	}
	if (x->done != UINT_MAX)
		x->done--;
	return timeout ? timeout : 1;
}

static __frame long __wait_for_common(struct completion *x, long timeout, unsigned int state)
{
	might_sleep_at("kernel/sched/completion.c", WAIT_FOR_COMMON_LINE);
	raw_spin_lock_irq(&x->wait.lock);
	timeout = do_wait_for_common(x, timeout, state);
	raw_spin_unlock_irq(&x->wait.lock);
	return timeout;
}

/* Jumps to __wait_for_common(): no frames of their own, as in Linux. */
void wait_for_completion(struct completion *x)
{
	__wait_for_common(x, MAX_SCHEDULE_TIMEOUT, TASK_UNINTERRUPTIBLE);
}

/* `timeout` in jiffies; what is left of them, 0: it is not done */
long wait_for_completion_timeout(struct completion *x, unsigned long timeout)
{
	return __wait_for_common(x, (long)timeout, TASK_UNINTERRUPTIBLE);
}

/* 0 or -ERESTARTSYS */
int wait_for_completion_killable(struct completion *x)
{
	long left = __wait_for_common(x, MAX_SCHEDULE_TIMEOUT, TASK_KILLABLE);

	return left == -ERESTARTSYS ? -ERESTARTSYS : 0;
}

__frame bool try_wait_for_completion(struct completion *x)
{
	unsigned long flags;
	bool done;

	raw_spin_lock_irqsave(&x->wait.lock, flags);
	done = x->done;
	if (done && x->done != UINT_MAX)
		x->done--;
	raw_spin_unlock_irqrestore(&x->wait.lock, flags);
	return done;
}
