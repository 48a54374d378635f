/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Spinlocks. Mirrors include/linux/spinlock.h and asm-generic/spinlock.h: a lock of two states, without a queue.
 *
 * Decision points: before an attempt, once around the loop that waits, after the release. arch_spin_lock() has only
 * the second: it guards the wait lists of sleeping locks, whose own points lie outside these sections.
 */
#ifndef _LINUX_SPINLOCK_H
#define _LINUX_SPINLOCK_H

#include <linux/atomic.h>
#include <linux/lockdep.h>
#include <linux/irqflags.h>

static __always_inline bool arch_spin_trylock(raw_spinlock_t *lock)
{
	int free = 0;

	return !atomic_read(&lock->val) && atomic_try_cmpxchg(&lock->val, &free, 1);
}

static __always_inline void arch_spin_lock(raw_spinlock_t *lock)
{
	while (!arch_spin_trylock(lock))
		cpu_relax();
}

static __always_inline void arch_spin_unlock(raw_spinlock_t *lock)
{
	smp_store_release(&lock->val.counter, 0);
}

static __always_inline unsigned long arch_spin_lock_irqsave(raw_spinlock_t *lock)
{
	unsigned long flags = local_irq_save();

	arch_spin_lock(lock);
	return flags;
}

static __always_inline void arch_spin_unlock_irqrestore(raw_spinlock_t *lock, unsigned long flags)
{
	arch_spin_unlock(lock);
	local_irq_restore(flags);
}

/* kernel/locking/spinlock.c */
void _raw_spin_lock(raw_spinlock_t *lock);
int _raw_spin_trylock(raw_spinlock_t *lock);
void _raw_spin_unlock(raw_spinlock_t *lock);
void _raw_spin_lock_irq(raw_spinlock_t *lock);
void _raw_spin_unlock_irq(raw_spinlock_t *lock);
unsigned long _raw_spin_lock_irqsave(raw_spinlock_t *lock);
void _raw_spin_unlock_irqrestore(raw_spinlock_t *lock, unsigned long flags);

#define raw_spin_lock(l) _raw_spin_lock(l)
#define raw_spin_trylock(l) _raw_spin_trylock(l)
#define raw_spin_unlock(l) _raw_spin_unlock(l)
#define raw_spin_lock_irq(l) _raw_spin_lock_irq(l)
#define raw_spin_unlock_irq(l) _raw_spin_unlock_irq(l)
#define raw_spin_lock_irqsave(l, flags) ((flags) = _raw_spin_lock_irqsave(l))
#define raw_spin_unlock_irqrestore(l, flags) _raw_spin_unlock_irqrestore(l, flags)

#endif
