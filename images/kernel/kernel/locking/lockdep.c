// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way into lockdep: the frame that its reports show above the lock function. Mirrors kernel/locking/lockdep.c;
 * the validator itself is outside. Left out: `check` (every lock here is validated).
 */
#include <linux/lockdep.h>

/* kcall */
void __lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read,
		    struct lockdep_map *nest_lock, unsigned long ip);

__frame void lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read, int check,
			  struct lockdep_map *nest_lock, unsigned long ip)
{
	__lock_acquire(lock, subclass, trylock, read, nest_lock, ip);
}
