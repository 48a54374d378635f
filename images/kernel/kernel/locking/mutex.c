// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mutexes. Mirrors kernel/locking/mutex.c of 6.18, built with CONFIG_DEBUG_LOCK_ALLOC (no fast path of its own). Left
 * out: wound/wait mutexes, debug checks.
 *
 * Decision points: before the first attempt, between the failed attempt and the queue, once around each loop that
 * spins, after the release and before the wake-up, each wake-up.
 */
#include <linux/atomic.h>
#include <linux/hung_task.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/osq_lock.h>
#include <linux/sched/wake_q.h>
#include <linux/spinlock.h>

#define MUTEX_FLAG_WAITERS 1LL	/* somebody is queued: unlock must wake him */
#define MUTEX_FLAG_HANDOFF 2LL	/* unlock must give the lock to the first waiter */
#define MUTEX_FLAG_PICKUP 4LL	/* that was done, the new owner has not noticed yet */
#define MUTEX_FLAGS 7LL
#define MUTEX_MIGHT_SLEEP_LINE 575	/* in Linux 6.18.35 */

struct mutex_waiter {
	struct list_head list;
	struct task_struct *task;
};

void __mutex_init(struct mutex *lock, const char *name, struct lock_class_key *key)
{
	if (unlikely(kernel_features.prove_locking))
		debug_check_no_locks_freed(lock, sizeof(*lock));
	memset(lock, 0, sizeof(*lock));
	INIT_LIST_HEAD(&lock->wait_list);
	lock->dep_map.key = key;
	lock->dep_map.name = name;
	lock->dep_map.wait_type_inner = LD_WAIT_SLEEP;
}

/* NULL: `current` has the lock; else who has it. With `handoff` a lock that is held is asked for. */
static __always_inline struct task_struct *trylock_or_owner(struct mutex *lock, bool handoff)
{
	s64 owner = atomic_read(&lock->owner), me = (s64)current;

	for (;;) {
		s64 flags = owner & MUTEX_FLAGS, task = owner & ~MUTEX_FLAGS;

		if (!task) {
			task = me;
		} else if (flags & MUTEX_FLAG_PICKUP) {
			if (task != me)
				break;
			flags &= ~MUTEX_FLAG_PICKUP;
		} else if (handoff && !(flags & MUTEX_FLAG_HANDOFF)) {
			flags |= MUTEX_FLAG_HANDOFF;
		} else {
			break;
		}
		/* whoever only asked for a handoff has not got it: not even from itself */
		if (atomic_try_cmpxchg(&lock->owner, &owner, task | flags)) {
			if (task == me)
				return NULL;
			break;
		}
	}
	return (struct task_struct *)(owner & ~MUTEX_FLAGS);
}

static __always_inline bool is_first(struct mutex *lock, struct mutex_waiter *waiter)
{
	return lock->wait_list.next == &waiter->list;
}

/* false: it stopped running, or the CPU is wanted elsewhere; true: it is the owner no longer */
static __frame bool mutex_spin_on_owner(struct mutex *lock, struct task_struct *owner)
{
	while ((atomic_read(&lock->owner) & ~MUTEX_FLAGS) == (s64)owner) {
		if (!owner_on_cpu(owner) || need_resched())
			return false;
		cpu_relax();
	}
	return true;
}

/* The first waiter spins beside the one that has the osq. */
static __always_inline bool mutex_optimistic_spin(struct mutex *lock, struct mutex_waiter *waiter)
{
	struct task_struct *owner;
	bool taken = false;

	if (!waiter) {
		owner = (struct task_struct *)(atomic_read(&lock->owner) & ~MUTEX_FLAGS);
		if (need_resched() || (owner && !owner_on_cpu(owner)) || !osq_lock(&lock->osq))
			goto fail;
	}
	for (;;) {
		owner = trylock_or_owner(lock, false);
		if (!owner) {
			taken = true;
			break;
		}
		if (!mutex_spin_on_owner(lock, owner))
			break;
		cpu_relax();
	}
	if (!waiter)
		osq_unlock(&lock->osq);
fail:
	if (!taken && need_resched()) {
		__set_current_state(TASK_RUNNING);
		schedule_preempt_disabled();
	}
	return taken;
}

static __always_inline void remove_waiter(struct mutex *lock, struct mutex_waiter *waiter)
{
	list_del(&waiter->list);
	if (list_empty(&lock->wait_list))
		atomic_andnot(MUTEX_FLAGS, &lock->owner);
	hung_task_clear_blocker();
}

__frame int __mutex_lock(struct mutex *lock, unsigned int state, unsigned int subclass, struct lockdep_map *nest_lock,
			 unsigned long ip)
{
	struct mutex_waiter waiter;
	unsigned long flags;
	int ret = 0;

	might_sleep_at("kernel/locking/mutex.c", MUTEX_MIGHT_SLEEP_LINE);
	sched_point();
	preempt_disable();
	mutex_acquire_nest(&lock->dep_map, subclass, 0, nest_lock, ip);
	if (!trylock_or_owner(lock, false) || mutex_optimistic_spin(lock, NULL))
		goto out;
	sched_point();
	flags = arch_spin_lock_irqsave(&lock->wait_lock);
	if (!trylock_or_owner(lock, false))
		goto unlock;
	waiter.task = current;
	hung_task_set_blocker(lock, BLOCKER_TYPE_MUTEX);
	list_add_tail(&waiter.list, &lock->wait_list);
	if (is_first(lock, &waiter))
		atomic_or(MUTEX_FLAG_WAITERS, &lock->owner);

	set_current_state(state);
	for (;;) {
		/* under wait_lock: a handoff to this task cannot slip in after the look at the signals */
		if (!trylock_or_owner(lock, false))
			break;
		if (signal_pending_state(state, current)) {
			ret = -EINTR;
			break;
		}
		arch_spin_unlock_irqrestore(&lock->wait_lock, flags);
		schedule_preempt_disabled();
		set_current_state(state);
		if (!trylock_or_owner(lock, is_first(lock, &waiter)) ||
		    (is_first(lock, &waiter) && mutex_optimistic_spin(lock, &waiter))) {
			flags = arch_spin_lock_irqsave(&lock->wait_lock);
			break;
		}
		flags = arch_spin_lock_irqsave(&lock->wait_lock);
	}
	__set_current_state(TASK_RUNNING);
	remove_waiter(lock, &waiter);
unlock:
	arch_spin_unlock_irqrestore(&lock->wait_lock, flags);
	if (ret)
		mutex_release(&lock->dep_map, ip);
out:
	preempt_enable();
	return ret;
}

/* These are jumps to __mutex_lock(): no frames of their own, as in Linux. */
void mutex_lock_nested(struct mutex *lock, unsigned int subclass)
{
	__mutex_lock(lock, TASK_UNINTERRUPTIBLE, subclass, NULL, _RET_IP_);
}

void _mutex_lock_nest_lock(struct mutex *lock, struct lockdep_map *nest)
{
	__mutex_lock(lock, TASK_UNINTERRUPTIBLE, 0, nest, _RET_IP_);
}

int mutex_lock_interruptible_nested(struct mutex *lock, unsigned int subclass)
{
	return __mutex_lock(lock, TASK_INTERRUPTIBLE, subclass, NULL, _RET_IP_);
}

int mutex_lock_killable_nested(struct mutex *lock, unsigned int subclass)
{
	return __mutex_lock(lock, TASK_KILLABLE, subclass, NULL, _RET_IP_);
}

__frame int mutex_trylock(struct mutex *lock)
{
	sched_point();
	if (trylock_or_owner(lock, false))
		return 0;
	mutex_acquire(&lock->dep_map, 0, 1, _RET_IP_);
	return 1;
}

static __frame void __mutex_unlock_slowpath(struct mutex *lock, unsigned long ip)
{
	struct task_struct *next = NULL;
	struct wake_q_head wake_q;
	unsigned long irq;
	s64 owner, new;

	mutex_release(&lock->dep_map, ip);
	owner = atomic_read(&lock->owner);
	while (!(owner & MUTEX_FLAG_HANDOFF))
		if (atomic_try_cmpxchg(&lock->owner, &owner, owner & MUTEX_FLAGS))
			break;
	sched_point();
	if (!(owner & (MUTEX_FLAG_HANDOFF | MUTEX_FLAG_WAITERS)))
		return;
	wake_q_init(&wake_q);
	irq = arch_spin_lock_irqsave(&lock->wait_lock);
	if (!list_empty(&lock->wait_list)) {
		next = list_first_entry(&lock->wait_list, struct mutex_waiter, list)->task;
		wake_q_add(&wake_q, next);
	}
	if (owner & MUTEX_FLAG_HANDOFF) {
		owner = atomic_read(&lock->owner);
		do {
			new = (s64)next | (owner & MUTEX_FLAG_WAITERS) | (next ? MUTEX_FLAG_PICKUP : 0);
		} while (!atomic_try_cmpxchg(&lock->owner, &owner, new));
	}
	arch_spin_unlock_irqrestore(&lock->wait_lock, irq);
	wake_up_q(&wake_q);
}

void mutex_unlock(struct mutex *lock)
{
	__mutex_unlock_slowpath(lock, _RET_IP_);
}
