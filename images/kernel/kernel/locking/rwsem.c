// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reader-writer semaphores. Mirrors kernel/locking/rwsem.c of 6.18. Left out: nested and non-owner variants,
 * PREEMPT_RT, statistics, the debug checks, references on tasks that are being woken (tasks are not freed here).
 *
 *      count   63        62 .. 8    7 .. 3   2         1         0
 *              READFAIL  readers    0        HANDOFF   WAITERS   WRITER_LOCKED
 *      owner   task pointer, bit 1 NONSPINNABLE, bit 0 READER_OWNED; a reader leaves its bits behind
 *
 * Decision points: before the first attempt of every down_*(); at the entry of a slow path (between the failed attempt
 * and the queue); once around each loop that spins; each wake-up; after the atomic that releases, before anybody is
 * woken. In between, and while wait_lock is held, nobody else moves.
 */
#include <linux/atomic.h>
#include <linux/hung_task.h>
#include <linux/list.h>
#include <linux/osq_lock.h>
#include <linux/rwsem.h>
#include <linux/sched/wake_q.h>
#include <linux/spinlock.h>

#define RWSEM_READER_OWNED 1L
#define RWSEM_NONSPINNABLE 2L
#define RWSEM_OWNER_FLAGS_MASK (RWSEM_READER_OWNED | RWSEM_NONSPINNABLE)

#define RWSEM_WRITER_LOCKED 1LL
#define RWSEM_FLAG_WAITERS 2LL
#define RWSEM_FLAG_HANDOFF 4LL
#define RWSEM_FLAG_READFAIL (1ULL << 63)
#define RWSEM_READER_SHIFT 8
#define RWSEM_READER_BIAS (1LL << RWSEM_READER_SHIFT)
#define RWSEM_READER_MASK (~(RWSEM_READER_BIAS - 1))
#define RWSEM_LOCK_MASK (RWSEM_WRITER_LOCKED | RWSEM_READER_MASK)
#define RWSEM_READ_FAILED_MASK \
	(RWSEM_WRITER_LOCKED | RWSEM_FLAG_WAITERS | RWSEM_FLAG_HANDOFF | (s64)RWSEM_FLAG_READFAIL)

#define RWSEM_WAIT_TIMEOUT 4000000ULL	/* nanoseconds: DIV_ROUND_UP(HZ, 250) jiffies */
#define MAX_READERS_WAKEUP 0x100

/* where Linux 6.18 has their might_sleep() */
#define DOWN_READ_LINE 1536
#define DOWN_READ_INTERRUPTIBLE_LINE 1545
#define DOWN_READ_KILLABLE_LINE 1559
#define DOWN_WRITE_LINE 1589
#define DOWN_WRITE_KILLABLE_LINE 1600

enum rwsem_waiter_type { RWSEM_WAITING_FOR_WRITE, RWSEM_WAITING_FOR_READ };
enum rwsem_wake_type { RWSEM_WAKE_ANY, RWSEM_WAKE_READERS, RWSEM_WAKE_READ_OWNED };
enum owner_state { OWNER_NULL, OWNER_WRITER, OWNER_READER, OWNER_NONSPINNABLE };

struct rwsem_waiter {
	struct list_head list;
	struct task_struct *task;	/* of a reader: NULL once it has the lock */
	enum rwsem_waiter_type type;
	bool handoff_set;
	u64 timeout;	/* when it may ask for a handoff */
};

/* -- owner ------------------------------------------------------------------------------------------------------- */

static __always_inline void rwsem_set_owner(struct rw_semaphore *sem)
{
	atomic_set(&sem->owner, (s64)current);
}

static __always_inline void set_reader_owned(struct rw_semaphore *sem, struct task_struct *reader)
{
	s64 keep = atomic_read(&sem->owner) & RWSEM_NONSPINNABLE;

	atomic_set(&sem->owner, (s64)reader | RWSEM_READER_OWNED | keep);
}

/* With CONFIG_DETECT_HUNG_TASK_BLOCKER a reader takes its name away, so that what is left names one who may hold it. */
static __always_inline void rwsem_clear_reader_owned(struct rw_semaphore *sem)
{
	s64 owner = atomic_read(&sem->owner);

	while ((owner & ~RWSEM_OWNER_FLAGS_MASK) == (s64)current)
		if (atomic_try_cmpxchg(&sem->owner, &owner, owner & RWSEM_OWNER_FLAGS_MASK))
			return;
}

static __always_inline void rwsem_set_nonspinnable(struct rw_semaphore *sem)
{
	s64 owner = atomic_read(&sem->owner);

	while (owner & RWSEM_READER_OWNED && !(owner & RWSEM_NONSPINNABLE))
		if (atomic_try_cmpxchg(&sem->owner, &owner, owner | RWSEM_NONSPINNABLE))
			return;
}

static __always_inline void clear_nonspinnable(struct rw_semaphore *sem)
{
	if (atomic_read(&sem->owner) & RWSEM_NONSPINNABLE)
		atomic_andnot(RWSEM_NONSPINNABLE, &sem->owner);
}

/* -- waking ------------------------------------------------------------------------------------------------------ */

static __always_inline struct rwsem_waiter *rwsem_first_waiter(struct rw_semaphore *sem)
{
	return list_first_entry(&sem->wait_list, struct rwsem_waiter, list);
}

/* Move the readers of the queue, wherever they stand, to `granted`; how many. */
static s64 collect_readers(struct rw_semaphore *sem, struct list_head *granted)
{
	struct list_head *at = sem->wait_list.next, *next;
	s64 readers = 0;

	for (; at != &sem->wait_list && readers < MAX_READERS_WAKEUP; at = next) {
		next = at->next;
		if (list_entry(at, struct rwsem_waiter, list)->type == RWSEM_WAITING_FOR_WRITE)
			continue;
		list_del(at);
		list_add_tail(at, granted);
		readers++;
	}
	return readers;
}

/*
 * Give the lock to the readers or choose the writer that the caller shall wake. wait_lock is held and somebody waits.
 * A writer is only woken: until it runs, others may take the lock from under it. Readers own it before they wake up.
 */
static void rwsem_mark_wake(struct rw_semaphore *sem, enum rwsem_wake_type wake_type, struct wake_q_head *wake_q)
{
	struct rwsem_waiter *first = rwsem_first_waiter(sem);
	struct list_head granted;
	s64 adjustment = 0, before;

	if (first->type == RWSEM_WAITING_FOR_WRITE) {
		if (wake_type == RWSEM_WAKE_ANY)
			wake_q_add(wake_q, first->task);
		return;
	}
	if (atomic_read(&sem->count) < 0)
		return;
	if (wake_type != RWSEM_WAKE_READ_OWNED) {
		/* one reader goes in first, to see whether a writer was faster */
		adjustment = RWSEM_READER_BIAS;
		before = atomic_fetch_add(adjustment, &sem->count);
		if (before & RWSEM_WRITER_LOCKED) {
			if (sched_clock() > first->timeout) {
				if (!(before & RWSEM_FLAG_HANDOFF))
					adjustment -= RWSEM_FLAG_HANDOFF;
				first->handoff_set = true;
			}
			atomic_fetch_add(-adjustment, &sem->count);
			return;
		}
		set_reader_owned(sem, first->task);
	}
	INIT_LIST_HEAD(&granted);
	adjustment = collect_readers(sem, &granted) * RWSEM_READER_BIAS - adjustment;
	if (list_empty(&sem->wait_list))
		adjustment -= RWSEM_FLAG_WAITERS;
	/* at least the first reader was let in: nobody has to force the lock open any more */
	if (atomic_read(&sem->count) & RWSEM_FLAG_HANDOFF)
		adjustment -= RWSEM_FLAG_HANDOFF;
	atomic_fetch_add(adjustment, &sem->count);
	/* the count first: a reader that sees its NULL may unlock at once, and then its waiter is gone */
	while (!list_empty(&granted)) {
		struct rwsem_waiter *waiter = list_first_entry(&granted, struct rwsem_waiter, list);
		struct task_struct *task = waiter->task;

		list_del(&waiter->list);
		smp_store_release(&waiter->task, NULL);
		wake_q_add(wake_q, task);
	}
}

static __always_inline void wake_waiters(struct rw_semaphore *sem, enum rwsem_wake_type wake_type)
{
	struct wake_q_head wake_q;
	unsigned long flags;

	wake_q_init(&wake_q);
	flags = arch_spin_lock_irqsave(&sem->wait_lock);
	if (!list_empty(&sem->wait_list))
		rwsem_mark_wake(sem, wake_type, &wake_q);
	arch_spin_unlock_irqrestore(&sem->wait_lock, flags);
	wake_up_q(&wake_q);
}

static __frame void rwsem_wake(struct rw_semaphore *sem)
{
	wake_waiters(sem, RWSEM_WAKE_ANY);
}

static __frame void rwsem_downgrade_wake(struct rw_semaphore *sem)
{
	wake_waiters(sem, RWSEM_WAKE_READ_OWNED);
}

/* Of a new waiter: those before it may be able to go on where no writer holds the lock. */
static __always_inline void rwsem_cond_wake_waiter(struct rw_semaphore *sem, s64 count, struct wake_q_head *wake_q)
{
	if (count & RWSEM_WRITER_LOCKED)
		return;
	if (count & RWSEM_READER_MASK) {
		rwsem_mark_wake(sem, RWSEM_WAKE_READERS, wake_q);
	} else {
		clear_nonspinnable(sem);
		rwsem_mark_wake(sem, RWSEM_WAKE_ANY, wake_q);
	}
}

/* A waiter gives up. wait_lock is held, and dropped. */
static __always_inline void rwsem_del_wake_waiter(struct rw_semaphore *sem, struct rwsem_waiter *waiter)
{
	bool first = rwsem_first_waiter(sem) == waiter;
	struct wake_q_head wake_q;

	wake_q_init(&wake_q);
	list_del(&waiter->list);
	if (list_empty(&sem->wait_list))
		atomic_andnot(RWSEM_FLAG_HANDOFF | RWSEM_FLAG_WAITERS, &sem->count);
	else if (first)
		rwsem_mark_wake(sem, RWSEM_WAKE_ANY, &wake_q);
	arch_spin_unlock(&sem->wait_lock);
	local_irq_enable();
	wake_up_q(&wake_q);
}

static __always_inline void lock_wait_list(struct rw_semaphore *sem)
{
	local_irq_disable();
	arch_spin_lock(&sem->wait_lock);
}

static __always_inline void unlock_wait_list(struct rw_semaphore *sem)
{
	arch_spin_unlock(&sem->wait_lock);
	local_irq_enable();
}

/* -- spinning of writers ----------------------------------------------------------------------------------------- */

static __always_inline enum owner_state rwsem_owner_state(s64 owner)
{
	if (owner & RWSEM_NONSPINNABLE)
		return OWNER_NONSPINNABLE;
	if (owner & RWSEM_READER_OWNED)
		return OWNER_READER;
	return owner ? OWNER_WRITER : OWNER_NULL;
}

static __always_inline bool rwsem_can_spin_on_owner(struct rw_semaphore *sem)
{
	s64 owner = atomic_read(&sem->owner);

	if (need_resched() || owner & RWSEM_NONSPINNABLE)
		return false;
	/* a reader's name may be stale */
	return !owner || owner & RWSEM_READER_OWNED || owner_on_cpu((struct task_struct *)owner);
}

/* Spin while the same writer owns the lock and runs. */
static __frame enum owner_state rwsem_spin_on_owner(struct rw_semaphore *sem)
{
	s64 owner = atomic_read(&sem->owner);

	if (rwsem_owner_state(owner) != OWNER_WRITER)
		return rwsem_owner_state(owner);
	for (;;) {
		s64 now = atomic_read(&sem->owner);

		if (now != owner)
			return rwsem_owner_state(now);
		if (need_resched() || !owner_on_cpu((struct task_struct *)owner))
			return OWNER_NONSPINNABLE;
		cpu_relax();
	}
}

static __always_inline bool rwsem_try_write_lock_unqueued(struct rw_semaphore *sem)
{
	s64 count = atomic_read(&sem->count);

	/* waiters do not matter: a spinner takes the lock from under them */
	while (!(count & (RWSEM_LOCK_MASK | RWSEM_FLAG_HANDOFF))) {
		if (atomic_try_cmpxchg(&sem->count, &count, count | RWSEM_WRITER_LOCKED)) {
			rwsem_set_owner(sem);
			return true;
		}
	}
	return false;
}

/* (10 + readers / 2) microseconds, of at most 30 readers */
static __always_inline u64 rwsem_rspin_threshold(struct rw_semaphore *sem)
{
	s64 readers = atomic_read(&sem->count) >> RWSEM_READER_SHIFT;

	return sched_clock() + (20 + (u64)min(readers, 30LL)) * 500;
}

/*
 * Wait for the lock without sleeping. Linux looks at the clock in every 16th turn under readers; here a turn is a
 * decision point that stands for many, so it looks every time. Such a turn ends in sched_point(), not in cpu_relax():
 * what the spinner waits for may be the time alone, so it can go on though nobody else has moved.
 */
static __frame bool rwsem_optimistic_spin(struct rw_semaphore *sem)
{
	enum owner_state previous = OWNER_NULL, state;
	u64 threshold = 0;
	bool taken = false;

	preempt_disable();
	if (!osq_lock(&sem->osq))
		goto done;
	for (;;) {
		state = rwsem_spin_on_owner(sem);
		if (state == OWNER_NONSPINNABLE)
			break;
		taken = rwsem_try_write_lock_unqueued(sem);
		if (taken)
			break;
		if (state == OWNER_READER) {
			if (previous != OWNER_READER) {
				if (atomic_read(&sem->owner) & RWSEM_NONSPINNABLE)
					break;
				threshold = rwsem_rspin_threshold(sem);
			} else if (sched_clock() > threshold) {
				rwsem_set_nonspinnable(sem);
				break;
			}
		}
		if (state != OWNER_WRITER) {
			if (need_resched())
				break;
			/* the owner may be one that a real-time task keeps from running */
			if (current->sched_rt && previous != OWNER_WRITER)
				break;
		}
		previous = state;
		if (state == OWNER_READER)
			sched_point();
		else
			cpu_relax();
	}
	osq_unlock(&sem->osq);
done:
	preempt_enable();
	return taken;
}

/* -- slow paths -------------------------------------------------------------------------------------------------- */

/* `count` is what the failed attempt left, this reader included. 0, or -EINTR */
static __frame int rwsem_down_read_slowpath(struct rw_semaphore *sem, s64 count, unsigned int state)
{
	s64 adjustment = -RWSEM_READER_BIAS, readers = count >> RWSEM_READER_SHIFT;
	struct rwsem_waiter waiter;
	struct wake_q_head wake_q;

	/* readers hold it and somebody waits: get in line, or a stream of readers would starve him */
	if (!(atomic_read(&sem->owner) & RWSEM_READER_OWNED && readers > 1 && !(count & RWSEM_WRITER_LOCKED)) &&
	    !(count & (RWSEM_WRITER_LOCKED | RWSEM_FLAG_HANDOFF))) {
		set_reader_owned(sem, current);
		if (readers == 1 && count & RWSEM_FLAG_WAITERS)
			wake_waiters(sem, RWSEM_WAKE_READ_OWNED);
		return 0;
	}
	sched_point();
	waiter.task = current;
	waiter.type = RWSEM_WAITING_FOR_READ;
	waiter.timeout = sched_clock() + RWSEM_WAIT_TIMEOUT;
	waiter.handoff_set = false;
	wake_q_init(&wake_q);
	lock_wait_list(sem);
	if (list_empty(&sem->wait_list)) {
		if (!(atomic_read(&sem->count) & RWSEM_WRITER_LOCKED)) {
			unlock_wait_list(sem);
			set_reader_owned(sem, current);
			return 0;
		}
		adjustment += RWSEM_FLAG_WAITERS;
	}
	list_add_tail(&waiter.list, &sem->wait_list);
	count = atomic_add_return(adjustment, &sem->count);
	rwsem_cond_wake_waiter(sem, count, &wake_q);
	unlock_wait_list(sem);
	wake_up_q(&wake_q);

	set_current_state(state);
	if (state == TASK_UNINTERRUPTIBLE)
		hung_task_set_blocker(sem, BLOCKER_TYPE_RWSEM_READER);
	while (smp_load_acquire(&waiter.task)) {
		if (signal_pending_state(state, current)) {
			lock_wait_list(sem);
			if (waiter.task) {
				rwsem_del_wake_waiter(sem, &waiter);
				__set_current_state(TASK_RUNNING);
				return -EINTR;
			}
			/* granted in the meantime: it has the lock, signal or not */
			unlock_wait_list(sem);
			break;
		}
		schedule_preempt_disabled();
		set_current_state(state);
	}
	if (state == TASK_UNINTERRUPTIBLE)
		hung_task_clear_blocker();
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* A queued writer tries, with wait_lock held. true: it has the lock and has left the queue */
static __always_inline bool rwsem_try_write_lock(struct rw_semaphore *sem, struct rwsem_waiter *waiter)
{
	struct rwsem_waiter *first = rwsem_first_waiter(sem);
	s64 count = atomic_read(&sem->count), new;

	do {
		bool handoff = count & RWSEM_FLAG_HANDOFF;

		/* promised to the one that asked for it */
		if (handoff && first->handoff_set && waiter != first)
			return false;
		if (count & RWSEM_LOCK_MASK) {
			if (handoff || (!current->sched_rt && sched_clock() <= waiter->timeout))
				return false;
			new = count | RWSEM_FLAG_HANDOFF;
		} else {
			new = (count | RWSEM_WRITER_LOCKED) & ~RWSEM_FLAG_HANDOFF;
			if (list_is_singular(&sem->wait_list))
				new &= ~RWSEM_FLAG_WAITERS;
		}
	} while (!atomic_try_cmpxchg(&sem->count, &count, new));
	if (new & RWSEM_FLAG_HANDOFF) {
		first->handoff_set = true;
		return false;
	}
	list_del(&waiter->list);
	rwsem_set_owner(sem);
	return true;
}

/* 0, or -EINTR */
static __frame int rwsem_down_write_slowpath(struct rw_semaphore *sem, unsigned int state)
{
	struct rwsem_waiter waiter;
	struct wake_q_head wake_q;

	sched_point();
	if (rwsem_can_spin_on_owner(sem) && rwsem_optimistic_spin(sem))
		return 0;
	waiter.task = current;
	waiter.type = RWSEM_WAITING_FOR_WRITE;
	waiter.timeout = sched_clock() + RWSEM_WAIT_TIMEOUT;
	waiter.handoff_set = false;
	wake_q_init(&wake_q);
	lock_wait_list(sem);
	list_add_tail(&waiter.list, &sem->wait_list);
	if (rwsem_first_waiter(sem) != &waiter) {
		rwsem_cond_wake_waiter(sem, atomic_read(&sem->count), &wake_q);
		if (wake_q.first != WAKE_Q_TAIL) {
			unlock_wait_list(sem);
			wake_up_q(&wake_q);
			lock_wait_list(sem);
		}
	} else {
		atomic_or(RWSEM_FLAG_WAITERS, &sem->count);
	}

	set_current_state(state);
	if (state == TASK_UNINTERRUPTIBLE)
		hung_task_set_blocker(sem, BLOCKER_TYPE_RWSEM_WRITER);
	while (!rwsem_try_write_lock(sem, &waiter)) {
		unlock_wait_list(sem);
		if (signal_pending_state(state, current)) {
			__set_current_state(TASK_RUNNING);
			lock_wait_list(sem);
			rwsem_del_wake_waiter(sem, &waiter);
			return -EINTR;
		}
		/* it asked for the lock: where the owner is about to leave it is quicker to spin than to sleep */
		if (!waiter.handoff_set || rwsem_spin_on_owner(sem) != OWNER_NULL) {
			schedule_preempt_disabled();
			set_current_state(state);
		} else {
			/* a reader that has knocked and not yet queued is in the way: it must move */
			cpu_relax();
		}
		lock_wait_list(sem);
	}
	if (state == TASK_UNINTERRUPTIBLE)
		hung_task_clear_blocker();
	__set_current_state(TASK_RUNNING);
	unlock_wait_list(sem);
	return 0;
}

/* -- the interface ----------------------------------------------------------------------------------------------- */

void __init_rwsem(struct rw_semaphore *sem, const char *name, struct lock_class_key *key)
{
	if (unlikely(kernel_features.prove_locking))
		debug_check_no_locks_freed(sem, sizeof(*sem));
	memset(sem, 0, sizeof(*sem));
	INIT_LIST_HEAD(&sem->wait_list);
	sem->dep_map.key = key;
	sem->dep_map.name = name;
	sem->dep_map.wait_type_inner = LD_WAIT_SLEEP;
}

static __always_inline int __down_read_common(struct rw_semaphore *sem, unsigned int state)
{
	int ret = 0;
	s64 count;

	sched_point();
	preempt_disable();
	count = atomic_add_return(RWSEM_READER_BIAS, &sem->count);
	if (count < 0)
		rwsem_set_nonspinnable(sem);
	if (count & RWSEM_READ_FAILED_MASK)
		ret = rwsem_down_read_slowpath(sem, count, state);
	else
		set_reader_owned(sem, current);
	preempt_enable();
	return ret;
}

static __always_inline int __down_write_common(struct rw_semaphore *sem, unsigned int state)
{
	s64 unlocked = 0;
	int ret = 0;

	sched_point();
	preempt_disable();
	if (atomic_try_cmpxchg(&sem->count, &unlocked, RWSEM_WRITER_LOCKED))
		rwsem_set_owner(sem);
	else
		ret = rwsem_down_write_slowpath(sem, state);
	preempt_enable();
	return ret;
}

__frame void down_read(struct rw_semaphore *sem)
{
	might_sleep_at("kernel/locking/rwsem.c", DOWN_READ_LINE);
	rwsem_acquire_read(&sem->dep_map, 0, 0, _RET_IP_);
	__down_read_common(sem, TASK_UNINTERRUPTIBLE);
}

__frame int down_read_interruptible(struct rw_semaphore *sem)
{
	might_sleep_at("kernel/locking/rwsem.c", DOWN_READ_INTERRUPTIBLE_LINE);
	rwsem_acquire_read(&sem->dep_map, 0, 0, _RET_IP_);
	if (__down_read_common(sem, TASK_INTERRUPTIBLE)) {
		rwsem_release(&sem->dep_map, _RET_IP_);
		return -EINTR;
	}
	return 0;
}

__frame int down_read_killable(struct rw_semaphore *sem)
{
	might_sleep_at("kernel/locking/rwsem.c", DOWN_READ_KILLABLE_LINE);
	rwsem_acquire_read(&sem->dep_map, 0, 0, _RET_IP_);
	if (__down_read_common(sem, TASK_KILLABLE)) {
		rwsem_release(&sem->dep_map, _RET_IP_);
		return -EINTR;
	}
	return 0;
}

__frame int down_read_trylock(struct rw_semaphore *sem)
{
	s64 count;

	sched_point();
	count = atomic_read(&sem->count);
	while (!(count & RWSEM_READ_FAILED_MASK)) {
		if (atomic_try_cmpxchg(&sem->count, &count, count + RWSEM_READER_BIAS)) {
			set_reader_owned(sem, current);
			rwsem_acquire_read(&sem->dep_map, 0, 1, _RET_IP_);
			return 1;
		}
	}
	return 0;
}

__frame void down_write(struct rw_semaphore *sem)
{
	might_sleep_at("kernel/locking/rwsem.c", DOWN_WRITE_LINE);
	rwsem_acquire(&sem->dep_map, 0, 0, _RET_IP_);
	__down_write_common(sem, TASK_UNINTERRUPTIBLE);
}

__frame int down_write_killable(struct rw_semaphore *sem)
{
	might_sleep_at("kernel/locking/rwsem.c", DOWN_WRITE_KILLABLE_LINE);
	rwsem_acquire(&sem->dep_map, 0, 0, _RET_IP_);
	if (__down_write_common(sem, TASK_KILLABLE)) {
		rwsem_release(&sem->dep_map, _RET_IP_);
		return -EINTR;
	}
	return 0;
}

__frame int down_write_trylock(struct rw_semaphore *sem)
{
	s64 unlocked = 0;

	sched_point();
	if (!atomic_try_cmpxchg(&sem->count, &unlocked, RWSEM_WRITER_LOCKED))
		return 0;
	rwsem_set_owner(sem);
	rwsem_acquire(&sem->dep_map, 0, 1, _RET_IP_);
	return 1;
}

/* What follows the atomic of a release: whoever comes now may take the lock before a waiter is woken. */
#define RELEASED(waiters, wake)			\
	do {					\
		if (waiters) {			\
			sched_point();		\
			wake;			\
			preempt_enable();	\
		} else {			\
			preempt_enable();	\
			sched_point();		\
		}				\
	} while (0)

__frame void up_read(struct rw_semaphore *sem)
{
	s64 count;

	rwsem_release(&sem->dep_map, _RET_IP_);
	preempt_disable();
	rwsem_clear_reader_owned(sem);
	count = atomic_add_return(-RWSEM_READER_BIAS, &sem->count);
	RELEASED((count & (RWSEM_LOCK_MASK | RWSEM_FLAG_WAITERS)) == RWSEM_FLAG_WAITERS,
		 clear_nonspinnable(sem); rwsem_wake(sem));
}

__frame void up_write(struct rw_semaphore *sem)
{
	s64 before;

	rwsem_release(&sem->dep_map, _RET_IP_);
	preempt_disable();
	atomic_set(&sem->owner, 0);
	before = atomic_fetch_add(-RWSEM_WRITER_LOCKED, &sem->count);
	RELEASED(before & RWSEM_FLAG_WAITERS, rwsem_wake(sem));
}

__frame void downgrade_write(struct rw_semaphore *sem)
{
	s64 before;

	rwsem_downgrade(&sem->dep_map, _RET_IP_);
	preempt_disable();
	before = atomic_fetch_add(RWSEM_READER_BIAS - RWSEM_WRITER_LOCKED, &sem->count);
	set_reader_owned(sem, current);
	RELEASED(before & RWSEM_FLAG_WAITERS, rwsem_downgrade_wake(sem));
}
