/* SPDX-License-Identifier: GPL-2.0-only */
/* Types of locks that other structures contain. Mirrors spinlock_types.h, rwsem.h, osq_lock.h, lockdep_types.h. */
#ifndef _LINUX_RWSEM_TYPES_H
#define _LINUX_RWSEM_TYPES_H

#include <linux/types.h>

typedef struct { int counter; } atomic_t;
typedef struct { s64 counter; } atomic64_t;
typedef atomic64_t atomic_long_t;
struct list_head { struct list_head *next, *prev; };
struct task_struct;

/* A class is its key's address; `name` as reports print it. Wait types are those of enum lockdep_wait_type. */
struct lock_class_key { char dummy; };
struct lockdep_map {
	struct lock_class_key *key;
	const char *name;
	u8 wait_type_outer;
	u8 wait_type_inner;
	u8 lock_type;
};

typedef struct raw_spinlock {
	atomic_t val;	/* 0 free, 1 held */
	struct lockdep_map dep_map;
} raw_spinlock_t;

struct optimistic_spin_queue { atomic_t tail; };

struct rw_semaphore {
	atomic_long_t count;
	atomic_long_t owner;	/* a task, RWSEM_READER_OWNED and RWSEM_NONSPINNABLE in the low bits */
	struct optimistic_spin_queue osq;
	raw_spinlock_t wait_lock;
	struct list_head wait_list;
	struct lockdep_map dep_map;
};

#endif
