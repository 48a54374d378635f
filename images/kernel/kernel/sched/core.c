// SPDX-License-Identifier: GPL-2.0-only
/*
 * Giving up the CPU and being woken. Mirrors kernel/sched/core.c: the functions that show in the trace of a blocked
 * task are here, who runs next is decided outside. And what is said of a task that sleeps where it must not:
 * might_sleep() and schedule() in atomic context, might_fault() of mm/memory.c. Left out there: idle tasks (deferred
 * work runs as one here), non_block sections, `Preemption disabled at:` (CONFIG_DEBUG_PREEMPT).
 */
#include <linux/lockdep.h>

/* kcalls: take `prev` off its CPU unless it is running; 1 where `p` was in one of the states and runs now */
void context_switch(struct task_struct *prev);
int try_to_wake_up(struct task_struct *p, unsigned int state);
/* kcalls: texts; false where one of that kind was printed less than a second ago */
bool might_resched_report(const char *file, int line, bool irqs_disabled);
void schedule_bug_report(unsigned int preempt_count, bool irqs_disabled);
void taint_warn(void);

#ifdef __aarch64__
/* out of line there, and the first entry of every sleeper's trace */
static __frame void __switch_to(struct task_struct *prev)
{
	context_switch(prev);
}
#else
#define __switch_to(prev) context_switch(prev)
#endif

/* `preempt_count` as Linux has it there: schedule() has disabled preemption itself, once */
static __frame void __schedule_bug(unsigned int preempt_count)
{
	schedule_bug_report(preempt_count, irqs_disabled());
	dump_stack_lvl();
	taint_warn();
}

static __frame void __schedule(void)
{
	if (unlikely(current->preempt_count)) {
		__schedule_bug(current->preempt_count + 1);
		current->preempt_count = 0;
	}
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

static __frame void __might_resched(const char *file, int line)
{
	if (likely(!current->preempt_count && !current->rcu_read_lock_nesting && !irqs_disabled()))
		return;
	if (!might_resched_report(file, line, irqs_disabled()))
		return;
	dump_stack_lvl();
	taint_warn();
}

/* A jump: no frame of its own, as in Linux. */
void __might_sleep(const char *file, int line)
{
	__might_resched(file, line);
}

__frame void __might_fault(const char *file, int line)
{
	struct mm_struct *mm = current->mm;
	unsigned long ip;

	if (current->pagefault_disabled)
		return;
	__might_sleep(file, line);
	if (!mm)
		return;
	ip = _THIS_IP_;
	lock_acquire(&mm->mmap_lock.dep_map, 0, 0, 1, 1, NULL, ip);
	lock_release(&mm->mmap_lock.dep_map, ip);
}

__frame int wake_up_process(struct task_struct *p)
{
	return try_to_wake_up(p, TASK_NORMAL);
}
