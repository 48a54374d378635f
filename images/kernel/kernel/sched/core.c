// SPDX-License-Identifier: GPL-2.0-only
/*
 * Giving up the CPU and being woken. Mirrors kernel/sched/core.c: the functions that show in the trace of a blocked
 * task are here, who runs next is decided outside.
 */
#include <linux/sched.h>

/* kcalls: take `prev` off its CPU unless it is running; 1 where `p` was in one of the states and runs now */
void context_switch(struct task_struct *prev);
int try_to_wake_up(struct task_struct *p, unsigned int state);

#ifdef __aarch64__
/* out of line there, and the first entry of every sleeper's trace */
static __frame void __switch_to(struct task_struct *prev)
{
	context_switch(prev);
}
#else
#define __switch_to(prev) context_switch(prev)
#endif

static __frame void __schedule(void)
{
	__switch_to(current);
}

__frame void schedule(void)
{
	__schedule();
}

__frame void schedule_preempt_disabled(void)
{
	current->preempt_count--;
	schedule();
	current->preempt_count++;
}

__frame int wake_up_process(struct task_struct *p)
{
	return try_to_wake_up(p, TASK_NORMAL);
}
