// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way into lockdep, and the frames that its reports show. Mirrors kernel/locking/lockdep.c, might_sleep() of
 * kernel/sched/core.c, might_fault() of mm/memory.c and lib/dump_stack.c; the validator and its texts are outside.
 */
#include <linux/lockdep.h>

/* what validate_chain() found */
enum { LOCKDEP_OK, LOCKDEP_DEADLOCK, LOCKDEP_CIRCULAR };

/* kcalls */
int validate_chain(struct lockdep_map *lock, unsigned int subclass, int trylock, int read,
		   struct lockdep_map *nest_lock, unsigned long ip);
void lockdep_report(void);	/* the text of what was found, up to `stack backtrace:` */
void __dump_stack(void);	/* who, and the trace from the caller of dump_stack_lvl() on */
int lock_release_check(struct lockdep_map *lock, unsigned long ip);
bool __might_resched_check(const char *file, int line);

__frame void dump_stack_lvl(void)
{
	__dump_stack();
}

static __frame void print_deadlock_bug(void)
{
	lockdep_report();
	dump_stack_lvl();
}

static __frame void print_circular_bug(void)
{
	lockdep_report();
	dump_stack_lvl();
}

static __frame void check_noncircular(void)
{
	print_circular_bug();
}

static __frame void __lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read,
				   struct lockdep_map *nest_lock, unsigned long ip)
{
	switch (validate_chain(lock, subclass, trylock, read, nest_lock, ip)) {
	case LOCKDEP_DEADLOCK:
		print_deadlock_bug();
		break;
	case LOCKDEP_CIRCULAR:
		check_noncircular();
		break;
	}
}

__frame void lock_acquire(struct lockdep_map *lock, unsigned int subclass, int trylock, int read, int check,
			  struct lockdep_map *nest_lock, unsigned long ip)
{
	/* a lock that is not checked carries that with `read`: the gate has room for six arguments */
	__lock_acquire(lock, subclass, trylock, check ? read : read | 0x100, nest_lock, ip);
}

static __frame void print_unlock_imbalance_bug(void)
{
	lockdep_report();
	dump_stack_lvl();
}

__frame void lock_release(struct lockdep_map *lock, unsigned long ip)
{
	if (lock_release_check(lock, ip))
		print_unlock_imbalance_bug();
}

static __frame void __might_resched(const char *file, int line)
{
	if (__might_resched_check(file, line))
		dump_stack_lvl();
}

__frame void __might_sleep(const char *file, int line)
{
	__might_resched(file, line);
}

__frame void __might_fault(const char *file, int line)
{
	struct mm_struct *mm = current->mm;

	if (current->pagefault_disabled)
		return;
	__might_sleep(file, line);
	if (mm) {
		lock_acquire(&mm->mmap_lock.dep_map, 0, 0, 1, 1, NULL, _THIS_IP_);
		lock_release(&mm->mmap_lock.dep_map, _THIS_IP_);
	}
}
