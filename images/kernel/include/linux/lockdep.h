/* SPDX-License-Identifier: GPL-2.0-only */
/* What locks tell lockdep; nothing unless the kernel is one with CONFIG_PROVE_LOCKING. Mirrors linux/lockdep.h. */
#ifndef _LINUX_LOCKDEP_H
#define _LINUX_LOCKDEP_H

#include <linux/irqflags.h>

enum lockdep_wait_type { LD_WAIT_INV, LD_WAIT_FREE, LD_WAIT_SPIN, LD_WAIT_CONFIG, LD_WAIT_SLEEP };
enum lockdep_lock_type { LD_LOCK_NORMAL, LD_LOCK_PERCPU, LD_LOCK_WAIT_OVERRIDE };

#define _RET_IP_ ((unsigned long)__builtin_return_address(0))

/* kernel/locking/lockdep.c; `read`: 0 exclusive, 1 shared, 2 shared and recursive */
void lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read, int check,
		  struct lockdep_map *nest_lock, unsigned long ip);
void lock_release(struct lockdep_map *lock, unsigned long ip);
void lock_downgrade(struct lockdep_map *lock, unsigned long ip);
void lockdep_sys_exit(void);
void debug_check_no_locks_freed(const void *from, unsigned long len);
void debug_check_no_locks_held(void);
void lockdep_rcu_suspicious(const char *file, int line, const char *s);
/* kcalls; `read` -1: held in any way; 1 it is, 0 it is not, -1 where lockdep is off */
int lock_is_held_type(const struct lockdep_map *lock, int read);
bool debug_lockdep_rcu_enabled(void);
void debug_show_all_locks(void);
void dump_stack_lvl(void);
/* kernel/sched/core.c */
void __might_sleep(const char *file, int line);
void __might_fault(const char *file, int line);

static __always_inline void lockdep_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read,
					    unsigned long ip)
{
	if (unlikely(kernel_features.prove_locking))
		lock_acquire(lock, subclass, trylock, read, 1, NULL, ip);
}

static __always_inline void lockdep_release(struct lockdep_map *lock, unsigned long ip)
{
	if (unlikely(kernel_features.prove_locking))
		lock_release(lock, ip);
}

#define rwsem_acquire(l, s, t, i) lockdep_acquire(l, s, t, 0, i)
#define rwsem_acquire_read(l, s, t, i) lockdep_acquire(l, s, t, 1, i)
#define rwsem_release(l, i) lockdep_release(l, i)
#define rwsem_downgrade(l, i) \
	do { if (unlikely(kernel_features.prove_locking)) lock_downgrade(l, i); } while (0)
#define lockdep_is_held(l) (lock_is_held_type(&(l)->dep_map, -1) != 0)
#define mutex_acquire(l, s, t, i) lockdep_acquire(l, s, t, 0, i)
#define mutex_acquire_nest(l, s, t, n, i) \
	do { if (unlikely(kernel_features.prove_locking)) lock_acquire(l, s, t, 0, 1, n, i); } while (0)
#define mutex_release(l, i) lockdep_release(l, i)
#define spin_acquire(l, s, t, i) lockdep_acquire(l, s, t, 0, i)
#define spin_release(l, i) lockdep_release(l, i)
/* where Linux has the check: reports name its file and line */
#define might_sleep_at(file, line) \
	do { if (unlikely(kernel_features.prove_locking)) __might_sleep(file, line); } while (0)
#define might_sleep() might_sleep_at(__FILE__, __LINE__)

#endif
