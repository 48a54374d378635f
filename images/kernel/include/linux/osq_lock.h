/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who may spin on an owner: one task at a time. Mirrors kernel/locking/osq_lock.c in what it guarantees; left out is
 * the order of those who wait for it (with two CPUs there is at most one). `tail` is 0 or CPU number + 1.
 */
#ifndef _LINUX_OSQ_LOCK_H
#define _LINUX_OSQ_LOCK_H

#include <linux/atomic.h>
#include <linux/sched.h>

static __always_inline bool need_resched(void)
{
	return READ_ONCE(current->thread_info_flags) & 1UL << TIF_NEED_RESCHED;
}

/* Whoever waits for himself spins until his time slice ends (there are none here), then sleeps. */
static __always_inline bool owner_on_cpu(struct task_struct *owner)
{
	return owner != current && READ_ONCE(owner->on_cpu);
}

/* false: the CPU is wanted elsewhere */
static __always_inline bool osq_lock(struct optimistic_spin_queue *lock)
{
	for (;;) {
		int unlocked = 0;

		if (atomic_try_cmpxchg(&lock->tail, &unlocked, raw_smp_processor_id() + 1))
			return true;
		if (need_resched())
			return false;
		cpu_relax();
	}
}

static __always_inline void osq_unlock(struct optimistic_spin_queue *lock)
{
	smp_store_release(&lock->tail.counter, 0);
}

#endif
