/* SPDX-License-Identifier: GPL-2.0-only */
/* Signals of user programs that have no library: handlers that see the fault and may change where it goes on. */
#ifndef _USER_SIGNAL_H
#define _USER_SIGNAL_H

#include <syscall.h>

#define SIGHUP 1
#define SIGILL 4
#define SIGTRAP 5
#define SIGABRT 6
#define SIGBUS 7
#define SIGFPE 8
#define SIGKILL 9
#define SIGUSR1 10
#define SIGSEGV 11
#define SIGUSR2 12
#define SIGTERM 15
#define SIGCONT 18
#define SIGSTOP 19
#define SIGURG 23
#define SIGRTMIN 32
#define SIG_DFL ((signal_handler)0)
#define SIG_IGN ((signal_handler)1)
#define SA_NOCLDWAIT 2UL
#define SA_SIGINFO 4UL
#define SA_RESTORER 0x04000000UL
#define SA_ONSTACK 0x08000000UL
#define SA_RESTART 0x10000000UL
#define SA_NODEFER 0x40000000UL
#define SA_RESETHAND 0x80000000UL
#define SIG_BLOCK 0
#define SIG_UNBLOCK 1
#define SIG_SETMASK 2
#define SS_ONSTACK 1
#define SS_DISABLE 2
#define SS_AUTODISARM (1 << 31)
#define sigbit(sig) (1UL << ((sig) - 1))

struct siginfo {
	int si_signo, si_errno, si_code, pad;
	union {
		unsigned long si_addr;
		struct {
			int si_pid;
			unsigned int si_uid;
			int si_status;
		};
	};
	unsigned long rest[12];
};

struct stack {
	unsigned long ss_sp;
	int ss_flags;
	unsigned long ss_size;
};

#ifdef __x86_64__
#define __NR_rt_sigaction 13
#define __NR_rt_sigprocmask 14
#define __NR_kill 62
#define __NR_rt_sigpending 127
#define __NR_rt_sigsuspend 130
#define __NR_sigaltstack 131
#define __NR_tkill 200
#define __NR_restart_syscall 219
#define __NR_tgkill 234
struct ucontext {
	unsigned long uc_flags, uc_link;
	struct stack uc_stack;
	unsigned long r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	unsigned short cs, gs, fs, ss;
	unsigned long err, trapno, oldmask, cr2;
	unsigned char *fpstate;
	unsigned long reserved[8];
	unsigned long uc_sigmask;
};
#define uc_pc ip
#define FAULT_ADDRESS cr2
__asm__(".text\n.globl sigreturn\nsigreturn:\n\tmovl $15, %eax\n\tsyscall\n\tud2");
#else
#define __NR_restart_syscall 128
#define __NR_kill 129
#define __NR_tkill 130
#define __NR_tgkill 131
#define __NR_sigaltstack 132
#define __NR_rt_sigsuspend 133
#define __NR_rt_sigaction 134
#define __NR_rt_sigprocmask 135
#define __NR_rt_sigpending 136
struct ucontext {
	unsigned long uc_flags, uc_link;
	struct stack uc_stack;
	unsigned long uc_sigmask, unused[15];
	unsigned long pad, fault_address, regs[31], sp, pc, pstate;
	unsigned char reserved[4096] __attribute__((aligned(16)));
};
#define uc_pc pc
#define FAULT_ADDRESS fault_address
__asm__(".text\n.globl sigreturn\nsigreturn:\n\tmov x8, #139\n\tsvc #0\n\tbrk #1");
#endif

void sigreturn(void);
typedef void (*signal_handler)(int, struct siginfo *, struct ucontext *);

struct sigaction {
	signal_handler handler;
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

static inline long sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return syscall6(__NR_rt_sigaction, sig, (long)act, (long)old, sizeof(act->mask), 0, 0);
}

static inline long set_handler(int sig, signal_handler handler, unsigned long flags, unsigned long mask)
{
	struct sigaction act = { handler, flags | SA_SIGINFO | SA_RESTORER, sigreturn, mask };

	return sigaction(sig, &act, 0);
}

static inline long sigprocmask(int how, const unsigned long *set, unsigned long *old)
{
	return syscall6(__NR_rt_sigprocmask, how, (long)set, (long)old, sizeof(*set), 0, 0);
}

static inline long kill(long pid, int sig)
{
	return syscall3(__NR_kill, pid, sig, 0);
}

#endif
