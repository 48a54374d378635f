// SPDX-License-Identifier: GPL-2.0-only
/* RCU sections as lockdep sees them. Mirrors kernel/rcu/update.c and rcu_lock_acquire() of include/linux/rcupdate.h. */
#include <linux/rcupdate.h>

static struct lock_class_key rcu_lock_key, rcu_trace_lock_key;
/* a section may begin anywhere, and forbids what sleeps: sections of PREEMPT_RCU can be preempted */
struct lockdep_map rcu_lock_map = {
	.key = &rcu_lock_key, .name = "rcu_read_lock", .wait_type_outer = LD_WAIT_FREE, .wait_type_inner = LD_WAIT_CONFIG,
};
struct lockdep_map rcu_trace_lock_map = { .key = &rcu_trace_lock_key, .name = "rcu_read_lock_trace" };

__frame void rcu_lock_acquire(struct lockdep_map *map)
{
	lock_acquire(map, 0, 0, 2, 0, NULL, _THIS_IP_);
}
