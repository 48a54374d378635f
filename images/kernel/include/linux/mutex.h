/* SPDX-License-Identifier: GPL-2.0-only */
/* Mutexes. Mirrors include/linux/mutex.h with CONFIG_DEBUG_LOCK_ALLOC: mutex_lock() is mutex_lock_nested(). */
#ifndef _LINUX_MUTEX_H
#define _LINUX_MUTEX_H

#include <linux/lockdep.h>
#include <linux/rwsem_types.h>

struct mutex {
	atomic_long_t owner;	/* a task; bit 0 WAITERS, bit 1 HANDOFF, bit 2 PICKUP */
	raw_spinlock_t wait_lock;
	struct optimistic_spin_queue osq;
	struct list_head wait_list;
	struct lockdep_map dep_map;
};

void __mutex_init(struct mutex *lock, const char *name, struct lock_class_key *key);
void mutex_lock_nested(struct mutex *lock, unsigned int subclass);
void _mutex_lock_nest_lock(struct mutex *lock, struct lockdep_map *nest);
int mutex_lock_interruptible_nested(struct mutex *lock, unsigned int subclass);
int mutex_lock_killable_nested(struct mutex *lock, unsigned int subclass);
int mutex_trylock(struct mutex *lock);
void mutex_unlock(struct mutex *lock);

#define mutex_lock(lock) mutex_lock_nested(lock, 0)
#define mutex_lock_nest_lock(lock, nest) _mutex_lock_nest_lock(lock, &(nest)->dep_map)
#define mutex_lock_interruptible(lock) mutex_lock_interruptible_nested(lock, 0)
#define mutex_lock_killable(lock) mutex_lock_killable_nested(lock, 0)

#endif
