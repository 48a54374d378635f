// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way into lockdep, and the frames that its reports show. Mirrors kernel/locking/lockdep.c and the trace of
 * interrupts that it keeps; the validator and its texts are outside. Left out: lock pinning, lock_sync(), cross-checks
 * of its own state.
 */
#include <linux/rcupdate.h>

/* what the validator found */
enum lockdep_found {
	LOCKDEP_OK, LOCKDEP_DEADLOCK, LOCKDEP_CIRCULAR, LOCKDEP_CONTEXT, LOCKDEP_USAGE, LOCKDEP_INVERSION,
	LOCKDEP_BAD_DEPENDENCY, LOCKDEP_IMBALANCE, LOCKDEP_FREED, LOCKDEP_NEST_NOT_HELD
};

/* kcalls; the first four give an enum lockdep_found */
int validate_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read,
		     struct lockdep_map *nest_lock, unsigned long ip);
int validate_release(struct lockdep_map *lock, unsigned long ip);
int validate_downgrade(struct lockdep_map *lock, unsigned long ip);
int validate_hardirqs_on(void);	/* of the locks that the task holds */
int validate_freed(const void *from, unsigned long len);
void lockdep_report(void);	/* the text of what was found, up to `stack backtrace:` */
void lockdep_report_more(void);	/* of the one report that has two stacks, up to the second */
bool print_held_locks_report(void);	/* false: lockdep is off */
void rcu_suspicious_report(const char *file, int line, const char *what);
void lockdep_sys_exit_report(void);
void print_all_held_locks(void);

/* -- reports ----------------------------------------------------------------------------------------------------- */

#define DEFINE_REPORT(name)		\
	static __frame void name(void)	\
	{				\
		lockdep_report();	\
		dump_stack_lvl();	\
	}

DEFINE_REPORT(print_deadlock_bug)
DEFINE_REPORT(print_circular_bug)
DEFINE_REPORT(print_usage_bug)
DEFINE_REPORT(print_irq_inversion_bug)
DEFINE_REPORT(print_bad_irq_dependency)
DEFINE_REPORT(print_unlock_imbalance_bug)
DEFINE_REPORT(print_freed_lock_bug)

static __frame void print_lock_nested_lock_not_held(void)
{
	lockdep_report();
	dump_stack_lvl();
	lockdep_report_more();
	dump_stack_lvl();
}

static __frame void print_held_locks_bug(void)
{
	if (print_held_locks_report())
		dump_stack_lvl();
}

__frame void lockdep_rcu_suspicious(const char *file, int line, const char *s)
{
	rcu_suspicious_report(file, line, s);
	dump_stack_lvl();
}

static __frame void check_noncircular(void)
{
	print_circular_bug();
}

static __frame void mark_lock(int found)
{
	if (found == LOCKDEP_USAGE)
		print_usage_bug();
	else
		print_irq_inversion_bug();
}

static __frame void mark_held_locks(int found)
{
	mark_lock(found);
}

/* -- taking and giving up ---------------------------------------------------------------------------------------- */

static __frame void __lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read,
				   struct lockdep_map *nest_lock, unsigned long ip)
{
	int found = validate_acquire(lock, subclass, trylock, read, nest_lock, ip);

	switch (found) {
	case LOCKDEP_DEADLOCK:
		print_deadlock_bug();
		break;
	case LOCKDEP_CIRCULAR:
		check_noncircular();
		break;
	case LOCKDEP_CONTEXT:
		lockdep_report();
		dump_stack_lvl();
		break;
	case LOCKDEP_USAGE:
	case LOCKDEP_INVERSION:
		mark_lock(found);
		break;
	case LOCKDEP_BAD_DEPENDENCY:
		print_bad_irq_dependency();
		break;
	case LOCKDEP_NEST_NOT_HELD:
		print_lock_nested_lock_not_held();
		break;
	}
}

__frame void lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read, int check,
			  struct lockdep_map *nest_lock, unsigned long ip)
{
	/* a lock that is not checked carries that with `read`: the gate has room for six arguments */
	__lock_acquire(lock, subclass, trylock, check ? read : read | 0x100, nest_lock, ip);
}

__frame void lock_release(struct lockdep_map *lock, unsigned long ip)
{
	if (validate_release(lock, ip))
		print_unlock_imbalance_bug();
}

__frame void lock_downgrade(struct lockdep_map *lock, unsigned long ip)
{
	if (validate_downgrade(lock, ip))
		print_unlock_imbalance_bug();
}

__frame void debug_check_no_locks_freed(const void *from, unsigned long len)
{
	if (current->lockdep_depth && validate_freed(from, len))
		print_freed_lock_bug();
}

__frame void debug_check_no_locks_held(void)
{
	if (current->lockdep_depth)
		print_held_locks_bug();
}

__frame void lockdep_sys_exit(void)
{
	lockdep_sys_exit_report();
}

/* -- interrupts -------------------------------------------------------------------------------------------------- */

/* what may be wrong with it, while it can still be told with interrupts off */
__frame void lockdep_hardirqs_on_prepare(void)
{
	int found = LOCKDEP_OK;

	if (current->irqtrace.hardirqs_off && current->lockdep_depth)
		found = validate_hardirqs_on();
	if (found)
		mark_held_locks(found);
}

__frame void lockdep_hardirqs_on(unsigned long ip)
{
	struct irqtrace_events *trace = &current->irqtrace;

	if (!trace->hardirqs_off)
		return;
	trace->hardirqs_off = false;
	trace->hardirq_enable_ip = ip;
	trace->hardirq_enable_event = ++trace->irq_events;
}

/* kernel/trace/trace_preemptirq.c */
__frame void (trace_hardirqs_on)(void)
{
	lockdep_hardirqs_on_prepare();
	lockdep_hardirqs_on(_RET_IP_);
}

__frame void lockdep_hardirqs_off(unsigned long ip)
{
	struct irqtrace_events *trace = &current->irqtrace;

	if (trace->hardirqs_off)
		return;
	trace->hardirqs_off = true;
	trace->hardirq_disable_ip = ip;
	trace->hardirq_disable_event = ++trace->irq_events;
}

/* -- asking ------------------------------------------------------------------------------------------------------ */

/* gcc's specialised clone keeps this name in the kernel whose texts are the reference */
static __frame void rcu_lock_acquire_here(void) __asm__("rcu_lock_acquire.constprop.0");

static __frame void rcu_lock_acquire_here(void)
{
	lock_acquire(&rcu_lock_map, 0, 0, 2, 0, NULL, _THIS_IP_);
}

__used __frame void debug_show_all_locks(void)
{
	current->rcu_read_lock_nesting++;
	rcu_lock_acquire_here();
	print_all_held_locks();
	rcu_read_unlock();
}
