// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls about signals, alternate stacks, and what both architectures do around a signal frame. Mirrors
 * kernel/signal.c. Queues, actions and what a signal does to a task are outside (kernel_model/sched/signal.py). Left
 * out: signalfd, sigtimedwait, ptrace, stopping.
 */
#include <linux/signal.h>
#include <linux/syscalls.h>

/* kcalls; pointers are the kernel's or NULL, results 0 or -errno */
int do_sigaction(int sig, struct k_sigaction *act, struct k_sigaction *oact);
sigset_t do_sigpending(void);
long do_tkill(pid_t tgid, pid_t pid, int sig);	/* a tgid of 0: whatever process the thread is of */
long futex_wait_restart(u32 *uaddr, u32 val, u64 time);

/* -- masks ------------------------------------------------------------------------------------------------------- */

__frame long __do_sys_rt_sigprocmask(int how, sigset_t *nset, sigset_t *oset, size_t sigsetsize)
{
	sigset_t old = current->blocked, new;

	if (sigsetsize != sizeof(sigset_t))
		return -EINVAL;
	if (nset) {
		if (copy_from_user(&new, nset, sizeof(new)))
			return -EFAULT;
		switch (how) {
		case SIG_BLOCK:
			new |= old;
			break;
		case SIG_UNBLOCK:
			new = old & ~new;
			break;
		case SIG_SETMASK:
			break;
		default:
			return -EINVAL;
		}
		__set_current_blocked(new);
	}
	if (oset && copy_to_user(oset, &old, sizeof(old)))
		return -EFAULT;
	return 0;
}

__frame long __do_sys_rt_sigpending(sigset_t *uset, size_t sigsetsize)
{
	sigset_t set;

	if (sigsetsize > sizeof(sigset_t))
		return -EINVAL;
	set = do_sigpending();
	return copy_to_user(uset, &set, sigsetsize) ? -EFAULT : 0;
}

static __frame long sigsuspend(sigset_t set)
{
	current->saved_sigmask = current->blocked;
	__set_current_blocked(set);
	while (!signal_pending(current)) {
		set_current_state(TASK_INTERRUPTIBLE);
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	current->restore_sigmask = true;
	return -ERESTARTNOHAND;
}

__frame long __do_sys_rt_sigsuspend(sigset_t *unewset, size_t sigsetsize)
{
	sigset_t set;

	if (sigsetsize != sizeof(sigset_t))
		return -EINVAL;
	if (copy_from_user(&set, unewset, sizeof(set)))
		return -EFAULT;
	return sigsuspend(set);
}

/* The mask that the program had before a system call changed it for a while: that is what a handler returns to. */
sigset_t sigmask_to_save(void)
{
	return unlikely(current->restore_sigmask) ? current->saved_sigmask : current->blocked;
}

void restore_saved_sigmask(void)
{
	if (current->restore_sigmask) {
		current->restore_sigmask = false;
		__set_current_blocked(current->saved_sigmask);
	}
}

/* -- actions ----------------------------------------------------------------------------------------------------- */

__frame long __do_sys_rt_sigaction(int sig, const struct sigaction *act, struct sigaction *oact, size_t sigsetsize)
{
	struct k_sigaction new, old;
	int ret;

	if (sigsetsize != sizeof(sigset_t))
		return -EINVAL;
	if (act && copy_from_user(&new.sa, act, sizeof(new.sa)))
		return -EFAULT;
	ret = do_sigaction(sig, act ? &new : NULL, oact ? &old : NULL);
	if (!ret && oact && copy_to_user(oact, &old.sa, sizeof(old.sa)))
		return -EFAULT;
	return ret;
}

/* -- the alternate stack ----------------------------------------------------------------------------------------- */

static int do_sigaltstack(const stack_t *ss, stack_t *oss, unsigned long sp)
{
	struct task_struct *t = current;
	unsigned int flags, mode;

	if (oss)
		__save_altstack(oss, sp);
	if (!ss)
		return 0;
	if (on_sig_stack(sp))
		return -EPERM;
	flags = (unsigned int)ss->ss_flags;
	mode = flags & ~SS_FLAG_BITS;
	if (mode != SS_DISABLE && mode != SS_ONSTACK && mode)
		return -EINVAL;
	if (t->sas_ss_sp == ss->ss_sp && t->sas_ss_size == ss->ss_size && t->sas_ss_flags == flags)
		return 0;
	if (mode != SS_DISABLE && ss->ss_size < MINSIGSTKSZ)
		return -ENOMEM;
	t->sas_ss_sp = mode == SS_DISABLE ? 0 : ss->ss_sp;
	t->sas_ss_size = mode == SS_DISABLE ? 0 : ss->ss_size;
	t->sas_ss_flags = flags;
	return 0;
}

__frame long __do_sys_sigaltstack(const stack_t *uss, stack_t *uoss, unsigned long sp)
{
	stack_t new, old;
	int err;

	if (uss && copy_from_user(&new, uss, sizeof(new)))
		return -EFAULT;
	err = do_sigaltstack(uss ? &new : NULL, uoss ? &old : NULL, sp);
	if (!err && uoss && copy_to_user(uoss, &old, sizeof(old)))
		return -EFAULT;
	return err;
}

void __save_altstack(stack_t *to, unsigned long sp)
{
	memset(to, 0, sizeof(*to));
	to->ss_sp = current->sas_ss_sp;
	to->ss_size = current->sas_ss_size;
	to->ss_flags = (int)(sas_ss_flags(sp) | (current->sas_ss_flags & SS_FLAG_BITS));
}

/* Of a frame that a handler returns through; it may have changed it, and what does not fit is passed over. */
int restore_altstack(const stack_t *from, unsigned long sp)
{
	stack_t new;

	if (copy_from_user(&new, from, sizeof(new)))
		return -EFAULT;
	(void)do_sigaltstack(&new, NULL, sp);
	return 0;
}

/* -- around a frame ---------------------------------------------------------------------------------------------- */

static void signal_delivered(struct ksignal *ksig)
{
	sigset_t blocked = current->blocked | ksig->ka.sa.sa_mask;

	current->restore_sigmask = false;	/* the frame has that mask */
	if (!(ksig->ka.sa.sa_flags & SA_NODEFER))
		blocked |= sigmask(ksig->sig);
	__set_current_blocked(blocked);
	if (current->sas_ss_flags & SS_AUTODISARM) {
		current->sas_ss_sp = 0;
		current->sas_ss_size = 0;
		current->sas_ss_flags = SS_DISABLE;
	}
}

void signal_setup_done(bool failed, struct ksignal *ksig)
{
	if (!failed)
		signal_delivered(ksig);
	else if (ksig->sig == SIGSEGV)
		force_fatal_sig(SIGSEGV);	/* its handler is what could not be called */
	else
		force_sig(SIGSEGV);
}

/* -- sending ----------------------------------------------------------------------------------------------------- */

__frame long sys_tgkill(pid_t tgid, pid_t pid, int sig)
{
	return pid <= 0 || tgid <= 0 ? -EINVAL : do_tkill(tgid, pid, sig);
}

__frame long sys_tkill(pid_t pid, int sig)
{
	return pid <= 0 ? -EINVAL : do_tkill(0, pid, sig);
}

/* -- restarting -------------------------------------------------------------------------------------------------- */

__frame long sys_restart_syscall(void)
{
	struct restart_block restart = current->restart_block;

	current->restart_block.fn = RESTART_NONE;
	if (restart.fn == RESTART_FUTEX_WAIT)
		return futex_wait_restart(restart.uaddr, restart.val, restart.time);
	return -EINTR;
}
