/* SPDX-License-Identifier: GPL-2.0-only */
/* RCU read sections: a counter of the task. Mirrors include/linux/rcupdate.h and kernel/rcu/tree_plugin.h. */
#ifndef _LINUX_RCUPDATE_H
#define _LINUX_RCUPDATE_H

#include <linux/lockdep.h>

/* kcall: the outermost section that a grace period waits for has ended */
void rcu_read_unlock_special(struct task_struct *t);

extern struct lockdep_map rcu_lock_map;

static __always_inline void rcu_read_lock(void)
{
	current->rcu_read_lock_nesting++;
	barrier();
	if (unlikely(kernel_features.prove_locking))
		lock_acquire(&rcu_lock_map, 0, 0, 2, 0, NULL, _THIS_IP_);
}

/* Complains once for each place, and leaves lockdep on. */
#define RCU_LOCKDEP_WARN(c, s)								\
	do {										\
		static bool __warned;							\
											\
		if (unlikely(kernel_features.prove_locking) && debug_lockdep_rcu_enabled() && (c) && !__warned) { \
			__warned = true;						\
			lockdep_rcu_suspicious(__FILE_NAME__, __LINE__, s);		\
		}									\
	} while (0)

#define rcu_read_lock_held() (lock_is_held_type(&rcu_lock_map, -1) != 0)

#define rcu_dereference_check(p, c) ({							\
	RCU_LOCKDEP_WARN(!((c) || rcu_read_lock_held()), "suspicious rcu_dereference_check() usage"); \
	READ_ONCE(p);									\
})
#define rcu_dereference(p) rcu_dereference_check(p, 0)
#define rcu_dereference_protected(p, c) ({						\
	RCU_LOCKDEP_WARN(!(c), "suspicious rcu_dereference_protected() usage");		\
	(p);										\
})

static __always_inline void rcu_read_unlock(void)
{
	struct task_struct *t = current;

	if (unlikely(kernel_features.prove_locking))
		lock_release(&rcu_lock_map, _THIS_IP_);
	barrier();
	if (--t->rcu_read_lock_nesting == 0 && unlikely(READ_ONCE(t->rcu_read_unlock_special)))
		rcu_read_unlock_special(t);
}

/*
 * Sections of RCU Tasks Trace, in which programs run that may sleep. Only lockdep is told of them: nothing here waits
 * for their end. In Linux linux/rcupdate_trace.h.
 */
extern struct lockdep_map rcu_trace_lock_map;
void rcu_lock_acquire(struct lockdep_map *map);

static __always_inline void rcu_read_lock_trace(void)
{
	if (unlikely(kernel_features.prove_locking))
		rcu_lock_acquire(&rcu_trace_lock_map);
}

static __always_inline void rcu_read_unlock_trace(void)
{
	lockdep_release(&rcu_trace_lock_map, _RET_IP_);
}

#endif
