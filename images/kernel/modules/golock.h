/* SPDX-License-Identifier: GPL-2.0-only */
/* What both files of module `golock` need: static locks, as initialised by the kernel's DEFINE_ macros. */
#ifndef _GOLOCK_H
#define _GOLOCK_H

#include <linux/completion.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>

/* Static locks: the key of each is its own address. */
#define DEP_MAP(lock, wait) { .name = #lock, .wait_type_inner = wait }
#define DEFINE_MUTEX(m)	\
	static struct mutex m = { .wait_list = { &m.wait_list, &m.wait_list }, .dep_map = DEP_MAP(m, LD_WAIT_SLEEP) }
#define DEFINE_SPIN(l, wait) static raw_spinlock_t l = { .dep_map = DEP_MAP(l, wait) }
#define DEFINE_RWSEM(s)		\
	static struct rw_semaphore s = { \
		.wait_list = { &s.wait_list, &s.wait_list }, .dep_map = DEP_MAP(s, LD_WAIT_SLEEP) }
#define DEFINE_COMPLETION(c)	\
	static struct completion c = {	\
		.wait.task_list = { &c.wait.task_list, &c.wait.task_list }, \
		.wait.lock.dep_map = { .name = "(&(" #c ").wait)->lock", .wait_type_inner = LD_WAIT_SPIN } }

#define spin_lock(l) _raw_spin_lock(l)
#define spin_unlock(l) _raw_spin_unlock(l)

/* kcall: a kernel thread that is ready to run */
struct task_struct *kthread_run(int (*threadfn)(void *data), void *data, const char *name);

/* more_golock.c */
int more_cases(const char *what);

#endif
