// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for children, and the way out of a task. Mirrors kernel/exit.c: kernel_wait4, do_wait, do_exit,
 * do_group_exit; what the end of a task means is decided outside. Left out: stopped and continued children, process
 * groups, resource usage, waitid(2).
 */
#include <linux/lockdep.h>
#include <linux/signal.h>
#include <linux/syscalls.h>

#define WNOHANG 0x00000001
#define WUNTRACED 0x00000002
#define WCONTINUED 0x00000008
#define __WNOTHREAD 0x20000000
#define __WALL 0x40000000
#define __WCLONE 0x80000000

/*
 * kcall: the pid of a child that has ended and now is gone, its status in *stat; 0 where none has and WNOHANG is set;
 * -ECHILD, or -ERESTARTSYS where one may still end: the task is woken then
 */
long __do_wait(long pid, unsigned int options, int *stat);

static __frame long do_wait(long pid, unsigned int options, int *stat)
{
	long retval;

	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		retval = __do_wait(pid, options, stat);
		if (retval != -ERESTARTSYS || signal_pending_state(TASK_INTERRUPTIBLE, current))
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return retval;
}

__frame long kernel_wait4(pid_t upid, int *stat_addr, unsigned int options)
{
	int stat = 0;
	long ret;

	if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
		return -EINVAL;
	if (upid == (pid_t)0x80000000)
		return -ESRCH;
	ret = do_wait(upid, options, &stat);
	if (ret > 0 && stat_addr && copy_to_user(stat_addr, &stat, sizeof(stat)))
		ret = -EFAULT;
	return ret;
}

/* kcall: what is asked for is not there */
void getrusage_not_modelled(void);

__frame long __do_sys_wait4(pid_t upid, int *stat_addr, unsigned int options, void *ru)
{
	if (ru)
		getrusage_not_modelled();
	return kernel_wait4(upid, stat_addr, options);
}

static __always_inline void check_no_locks_held(void)
{
	if (unlikely(kernel_features.prove_locking))
		debug_check_no_locks_held();
}

__frame __noreturn void do_exit(int code)
{
	check_no_locks_held();
	do_task_dead(code, current->group_exit);
}

__used __frame __noreturn void do_group_exit(int exit_code)
{
	current->group_exit = true;
	do_exit(exit_code);
}
