/* SPDX-License-Identifier: GPL-2.0-only */
/* What a task waits for, for whoever finds it hung. Mirrors include/linux/hung_task.h (CONFIG_DETECT_HUNG_TASK_BLOCKER). */
#ifndef _LINUX_HUNG_TASK_H
#define _LINUX_HUNG_TASK_H

#include <linux/sched.h>

#define BLOCKER_TYPE_MUTEX 0UL
#define BLOCKER_TYPE_SEM 1UL
#define BLOCKER_TYPE_RWSEM_READER 2UL
#define BLOCKER_TYPE_RWSEM_WRITER 3UL
#define BLOCKER_TYPE_MASK 3UL

static __always_inline void hung_task_set_blocker(void *lock, unsigned long type)
{
	WRITE_ONCE(current->blocker, (unsigned long)lock | type);
}

static __always_inline void hung_task_clear_blocker(void)
{
	WRITE_ONCE(current->blocker, 0UL);
}

#endif
