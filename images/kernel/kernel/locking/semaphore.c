// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counting semaphores. Mirrors kernel/locking/semaphore.c of 6.18. Decision points are those of its spinlock (before
 * and after), of its wake-ups and of sleeping.
 */
#include <linux/hung_task.h>
#include <linux/list.h>
#include <linux/sched/timeout.h>
#include <linux/sched/wake_q.h>
#include <linux/semaphore.h>
#include <linux/spinlock.h>

#define ETIME 62

/* where Linux 6.18 has their might_sleep() */
#define DOWN_LINE 95
#define DOWN_INTERRUPTIBLE_LINE 119
#define DOWN_KILLABLE_LINE 146
#define DOWN_TIMEOUT_LINE 201

struct semaphore_waiter {
	struct list_head list;
	struct task_struct *task;
	bool up;
};

void sema_init(struct semaphore *sem, int val)
{
	static struct lock_class_key key;

	memset(sem, 0, sizeof(*sem));
	sem->count = (unsigned int)val;
	sem->lock.dep_map.key = &key;
	sem->lock.dep_map.name = "semaphore->lock";
	sem->lock.dep_map.wait_type_inner = LD_WAIT_SPIN;
	INIT_LIST_HEAD(&sem->wait_list);
}

/* Queue and sleep, with the lock held; 0, -EINTR or -ETIME with the lock held. */
static __always_inline int ___down_common(struct semaphore *sem, unsigned int state, long timeout)
{
	struct semaphore_waiter waiter;
	int ret = 0;

	list_add_tail(&waiter.list, &sem->wait_list);
	waiter.task = current;
	waiter.up = false;
	for (;;) {
		if (signal_pending_state(state, current)) {
			ret = -EINTR;
			break;
		}
		if (timeout <= 0) {
			ret = -ETIME;
			break;
		}
		__set_current_state(state);
		raw_spin_unlock_irq(&sem->lock);
		timeout = schedule_timeout(timeout);
		raw_spin_lock_irq(&sem->lock);
		if (READ_ONCE(waiter.up))
			break;
	}
	if (ret)
		list_del(&waiter.list);
	else
		sem->last_holder = (unsigned long)current;
	return ret;
}

static __frame int __down_common(struct semaphore *sem, unsigned int state, long timeout)
{
	int ret;

	hung_task_set_blocker(sem, BLOCKER_TYPE_SEM);
	ret = ___down_common(sem, state, timeout);
	hung_task_clear_blocker();
	return ret;
}

static __frame int __down(struct semaphore *sem, long timeout)
{
	return __down_common(sem, TASK_UNINTERRUPTIBLE, timeout);
}

static __frame int __down_interruptible(struct semaphore *sem, long timeout)
{
	return __down_common(sem, TASK_INTERRUPTIBLE, timeout);
}

static __frame int __down_killable(struct semaphore *sem, long timeout)
{
	return __down_common(sem, TASK_KILLABLE, timeout);
}

static __frame int __down_timeout(struct semaphore *sem, long timeout)
{
	return __down_common(sem, TASK_UNINTERRUPTIBLE, timeout);
}

static __always_inline int down_or(struct semaphore *sem, int (*sleep)(struct semaphore *, long), long timeout)
{
	unsigned long flags;
	int ret = 0;

	raw_spin_lock_irqsave(&sem->lock, flags);
	if (sem->count > 0) {
		sem->count--;
		sem->last_holder = (unsigned long)current;
	} else {
		ret = sleep(sem, timeout);
	}
	raw_spin_unlock_irqrestore(&sem->lock, flags);
	return ret;
}

__frame void down(struct semaphore *sem)
{
	might_sleep_at("kernel/locking/semaphore.c", DOWN_LINE);
	down_or(sem, __down, MAX_SCHEDULE_TIMEOUT);
}

__frame int down_interruptible(struct semaphore *sem)
{
	might_sleep_at("kernel/locking/semaphore.c", DOWN_INTERRUPTIBLE_LINE);
	return down_or(sem, __down_interruptible, MAX_SCHEDULE_TIMEOUT);
}

__frame int down_killable(struct semaphore *sem)
{
	might_sleep_at("kernel/locking/semaphore.c", DOWN_KILLABLE_LINE);
	return down_or(sem, __down_killable, MAX_SCHEDULE_TIMEOUT);
}

/* `timeout` in jiffies */
__frame int down_timeout(struct semaphore *sem, long timeout)
{
	might_sleep_at("kernel/locking/semaphore.c", DOWN_TIMEOUT_LINE);
	return down_or(sem, __down_timeout, timeout);
}

/* 0 where it got the semaphore, 1 where not */
__frame int down_trylock(struct semaphore *sem)
{
	unsigned long flags;
	bool got;

	raw_spin_lock_irqsave(&sem->lock, flags);
	got = sem->count > 0;
	if (got) {
		sem->count--;
		sem->last_holder = (unsigned long)current;
	}
	raw_spin_unlock_irqrestore(&sem->lock, flags);
	return !got;
}

__frame void up(struct semaphore *sem)
{
	struct wake_q_head wake_q;
	unsigned long flags;

	wake_q_init(&wake_q);
	raw_spin_lock_irqsave(&sem->lock, flags);
	if (sem->last_holder == (unsigned long)current)
		sem->last_holder = 0;
	if (list_empty(&sem->wait_list)) {
		sem->count++;
	} else {
		struct semaphore_waiter *waiter = list_first_entry(&sem->wait_list, struct semaphore_waiter, list);

		/* it gets the unit itself: nobody can be faster */
		list_del(&waiter->list);
		waiter->up = true;
		wake_q_add(&wake_q, waiter->task);
	}
	raw_spin_unlock_irqrestore(&sem->lock, flags);
	wake_up_q(&wake_q);
}
