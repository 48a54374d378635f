/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Signals, as far as guest text deals with them: frames on user stacks, masks, alternate stacks. Mirrors
 * include/linux/signal.h, sched/signal.h, signal_types.h and uapi/asm-generic/siginfo.h. Queues and actions are outside
 * (kernel_model/sched/signal.py).
 */
#ifndef _LINUX_SIGNAL_H
#define _LINUX_SIGNAL_H

#include <linux/sched.h>

typedef u64 sigset_t;

#define SIG_BLOCK 0
#define SIG_UNBLOCK 1
#define SIG_SETMASK 2
#define sigmask(sig) (1ULL << ((sig) - 1))

#define SA_SIGINFO 0x00000004UL
#define SA_RESTORER 0x04000000UL
#define SA_ONSTACK 0x08000000UL
#define SA_RESTART 0x10000000UL
#define SA_NODEFER 0x40000000UL

#define SS_ONSTACK 1U
#define SS_DISABLE 2U
#define SS_AUTODISARM (1U << 31)
#define SS_FLAG_BITS SS_AUTODISARM

/* What a system call returns that a signal has interrupted; user mode never sees these. */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

typedef struct sigaltstack {
	unsigned long ss_sp;
	int ss_flags;
	size_t ss_size;
} stack_t;

struct sigaction {
	unsigned long sa_handler;
	unsigned long sa_flags;
	unsigned long sa_restorer;
	sigset_t sa_mask;
};

struct k_sigaction { struct sigaction sa; };

typedef struct kernel_siginfo {
	int si_signo;
	int si_errno;
	int si_code;
	u64 _sifields[4];
} kernel_siginfo_t;

/* What a handler finds: the kernel's half, and room for more. */
typedef struct siginfo {
	kernel_siginfo_t info;
	u8 _si_pad[128 - sizeof(kernel_siginfo_t)];
} siginfo_t;

struct ksignal {
	struct k_sigaction ka;
	kernel_siginfo_t info;
	int sig;
};

struct pt_regs;

static __always_inline bool signal_pending(struct task_struct *p)
{
	return READ_ONCE(p->thread_info_flags) & 1UL << TIF_SIGPENDING;
}

/* A fault that was given up for a signal; for others than fatal ones only user mode is interrupted. */
static __always_inline bool fault_signal_pending(vm_fault_t fault, bool user)
{
	return fault & VM_FAULT_RETRY && signal_pending(current) && (user || fatal_signal_pending(current));
}

/* -- the alternate stack ----------------------------------------------------------------------------------------- */

static __always_inline bool __on_sig_stack(unsigned long sp)
{
	return sp > current->sas_ss_sp && sp - current->sas_ss_sp <= current->sas_ss_size;
}

static __always_inline bool on_sig_stack(unsigned long sp)
{
	return !(current->sas_ss_flags & SS_AUTODISARM) && __on_sig_stack(sp);
}

static __always_inline unsigned int sas_ss_flags(unsigned long sp)
{
	if (!current->sas_ss_size)
		return SS_DISABLE;
	return on_sig_stack(sp) ? SS_ONSTACK : 0;
}

void __save_altstack(stack_t *to, unsigned long sp);	/* to a frame that is being made */
int restore_altstack(const stack_t *from, unsigned long sp);

/* -- delivery ---------------------------------------------------------------------------------------------------- */

sigset_t sigmask_to_save(void);
void restore_saved_sigmask(void);
void signal_setup_done(bool failed, struct ksignal *ksig);
long sys_restart_syscall(void);

/*
 * kcalls. get_signal(): true where a signal waits that has a handler; a task that has to end does not return.
 * force_fatal_sig(): its handler is taken away first.
 */
bool get_signal(struct ksignal *ksig);
void force_sig_fault(int sig, int code, unsigned long addr);
void force_sig(int sig);
void force_fatal_sig(int sig);
void __set_current_blocked(sigset_t set);	/* SIGKILL and SIGSTOP are never blocked */

#endif
