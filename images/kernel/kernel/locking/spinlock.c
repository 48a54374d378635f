// SPDX-License-Identifier: GPL-2.0-only
/*
 * Raw spinlocks out of line. Mirrors kernel/locking/spinlock.c and linux/spinlock_api_smp.h. Left out: bottom halves,
 * reader-writer spinlocks, the queue of waiters (who comes next is the scheduler's choice).
 */
#include <linux/spinlock.h>

static __always_inline void do_lock(raw_spinlock_t *lock, unsigned long ip)
{
	preempt_disable();
	spin_acquire(&lock->dep_map, 0, 0, ip);
	arch_spin_lock(lock);
}

static __always_inline void do_unlock(raw_spinlock_t *lock, unsigned long ip)
{
	spin_release(&lock->dep_map, ip);
	arch_spin_unlock(lock);
}

__frame void _raw_spin_lock(raw_spinlock_t *lock)
{
	sched_point();
	do_lock(lock, _RET_IP_);
}

__frame int _raw_spin_trylock(raw_spinlock_t *lock)
{
	sched_point();
	preempt_disable();
	if (arch_spin_trylock(lock)) {
		spin_acquire(&lock->dep_map, 0, 1, _RET_IP_);
		return 1;
	}
	preempt_enable();
	return 0;
}

__frame void _raw_spin_unlock(raw_spinlock_t *lock)
{
	do_unlock(lock, _RET_IP_);
	preempt_enable();
	sched_point();
}

__frame void _raw_spin_lock_irq(raw_spinlock_t *lock)
{
	sched_point();
	local_irq_disable();
	do_lock(lock, _RET_IP_);
}

__frame void _raw_spin_unlock_irq(raw_spinlock_t *lock)
{
	do_unlock(lock, _RET_IP_);
	local_irq_enable();
	preempt_enable();
	sched_point();
}

__frame unsigned long _raw_spin_lock_irqsave(raw_spinlock_t *lock)
{
	unsigned long flags;

	sched_point();
	flags = local_irq_save();
	do_lock(lock, _RET_IP_);
	return flags;
}

__frame void _raw_spin_unlock_irqrestore(raw_spinlock_t *lock, unsigned long flags)
{
	do_unlock(lock, _RET_IP_);
	local_irq_restore(flags);
	preempt_enable();
	sched_point();
}
