// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program sees of signals: who gets them, with what, in which order, and what they interrupt. One line
 * "name: value" for each look, with what it should have been where it was not. It runs on any Linux; lines that begin
 * with the name of an architecture are that one's alone. The exit code is 0 where everything was as it should be.
 */
#include <print.h>
#include <signal.h>

#define PAGE 4096UL
#define EPERM 1
#define ESRCH 3
#define EINTR 4
#define ECHILD 10
#define EAGAIN 11
#define ENOMEM 12
#define EFAULT 14
#define EINVAL 22
#define ETIMEDOUT 110
#define SI_TKILL (-6)
#define CLD_EXITED 1
#define CLD_KILLED 2

static int wrong;	/* lines that are not what they should be */

static void check(const char *name, long value, long wanted)
{
	text(name);
	text(": ");
	number(value);
	if (value != wanted) {
		text(", should be ");
		number(wanted);
		wrong++;
	}
	flush();
}

/* -- what the last handler saw ----------------------------------------------------------------------------------- */

static volatile struct {
	int count, signo, code, pid, status;
	unsigned long addr, latched, sp, mask, saved_mask, stack_flags;
} seen;
static volatile unsigned long resume, resumed;	/* where a fault goes on; 0: where it was */
static volatile int order[8], entered;	/* numbers of signals as their handlers began */
static long self;

static unsigned long blocked(void)
{
	unsigned long mask = 0;

	sigprocmask(SIG_BLOCK, 0, &mask);
	return mask;
}

static void handler(int sig, struct siginfo *info, struct ucontext *uc)
{
	order[entered++ & 7] = sig;
	seen.count++;
	seen.signo = sig;
	seen.code = info->si_code;
	seen.pid = info->si_pid;
	seen.status = info->si_status;
	seen.addr = info->si_addr;
	seen.latched = uc->FAULT_ADDRESS;
	seen.sp = (unsigned long)&uc;
	seen.mask = blocked();
	seen.saved_mask = uc->uc_sigmask;
	seen.stack_flags = (unsigned long)uc->uc_stack.ss_flags;
	if (resume)
		uc->uc_pc = resume;
	resumed = resume;
}

static void forget(void)
{
	seen.count = seen.signo = seen.code = seen.pid = seen.status = 0;
	seen.addr = 0;
	entered = 0;
	for (int i = 0; i < 8; i++)
		order[i] = 0;
}

static void block(int how, unsigned long mask)
{
	sigprocmask(how, &mask, 0);
}

static long map_page(long prot)
{
	return syscall6(__NR_mmap, 0, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

#ifdef __x86_64__
#define GUARDED(insn, ...)								\
	__asm__ __volatile__("leaq 1f(%%rip), %%rax\n\tmovq %%rax, resume(%%rip)\n\t"	\
			     insn "\n1:" __VA_ARGS__)

static void store(unsigned long address)
{
	forget();
	GUARDED("movb $1, (%0)", : : "r"(address) : "rax", "memory");
	resume = 0;
}

/* with another stack pointer */
static void store_on_stack(unsigned long address, unsigned long sp)
{
	forget();
	GUARDED("movq %%rsp, %%rbx\n\tmovq %1, %%rsp\n\tmovb $1, (%0)", "\n\tmovq %%rbx, %%rsp"
		: : "r"(address), "r"(sp) : "rax", "rbx", "memory");
	resume = 0;
}

/* registers that a system call would not have kept come back from a handler */
static long registers_survive(unsigned long address)
{
	unsigned long cx, r8, r11;

	forget();
	GUARDED("movl $0x1234, %%ecx\n\tmovl $0x77, %%r8d\n\tmovl $0x5678, %%r11d\n\tmovb $1, (%3)",
		"\n\tmovq %%rcx, %0\n\tmovq %%r8, %1\n\tmovq %%r11, %2"
		: "=&r"(cx), "=&r"(r8), "=&r"(r11) : "r"(address) : "rax", "rcx", "r8", "r11", "memory");
	resume = 0;
	return cx == 0x1234 && r8 == 0x77 && r11 == 0x5678;
}

static void return_to_nowhere(void)
{
	__asm__ __volatile__("movl $64, %%esp\n\tmovl $15, %%eax\n\tsyscall" ::: "memory");
}
#else
#define GUARDED(insn, ...)								\
	__asm__ __volatile__("adr x9, 1f\n\tadrp x10, resume\n\tstr x9, [x10, :lo12:resume]\n\t"	\
			     insn "\n1:" __VA_ARGS__)

static void store(unsigned long address)
{
	forget();
	GUARDED("strb wzr, [%0]", : : "r"(address) : "x9", "x10", "memory");
	resume = 0;
}

static void store_on_stack(unsigned long address, unsigned long sp)
{
	forget();
	GUARDED("mov x11, sp\n\tmov sp, %1\n\tstrb wzr, [%0]", "\n\tmov sp, x11"
		: : "r"(address), "r"(sp) : "x9", "x10", "x11", "memory");
	resume = 0;
}

static long registers_survive(unsigned long address)
{
	unsigned long x17, x8, x11;

	forget();
	GUARDED("mov x17, #0x1234\n\tmov x8, #0x77\n\tmov x11, #0x5678\n\tstrb w17, [%3]",
		"\n\tmov %0, x17\n\tmov %1, x8\n\tmov %2, x11"
		: "=&r"(x17), "=&r"(x8), "=&r"(x11) : "r"(address) : "x8", "x9", "x10", "x11", "x17", "memory");
	resume = 0;
	return x17 == 0x1234 && x8 == 0x77 && x11 == 0x5678;
}

static void return_to_nowhere(void)
{
	__asm__ __volatile__("mov x0, #64\n\tmov sp, x0\n\tmov x8, #139\n\tsvc #0" ::: "memory");
}
#endif

/* -- faults and masks -------------------------------------------------------------------------------------------- */

static unsigned long read_only;

static void check_handler(void)
{
	struct sigaction old = { 0, 0, 0, 0 };

	set_handler(SIGSEGV, handler, 0, 0);
	check("registers survive", registers_survive(read_only), 1);
	check("a fault each time", seen.count, 1);
	store(read_only + 40);
	check("signal", seen.signo, SIGSEGV);
	check("code", seen.code, 2);
	check("address", (long)(seen.addr - read_only), 40);
	check("address for debuggers", (long)(seen.latched - read_only), 40);
	check("blocked in the handler", (long)seen.mask, sigbit(SIGSEGV));
	check("blocked before", (long)seen.saved_mask, 0);
	check("blocked after", (long)blocked(), 0);
	set_handler(SIGSEGV, handler, SA_NODEFER, sigbit(SIGUSR1) | sigbit(SIGKILL));
	store(read_only);
	check("blocked without it", (long)seen.mask, sigbit(SIGUSR1));
	set_handler(SIGSEGV, handler, SA_RESETHAND, 0);
	store(read_only);
	check("handled once", seen.count, 1);
	sigaction(SIGSEGV, 0, &old);
	check("handler is gone", (long)old.handler, 0);
	check("flags are kept", (long)(old.flags & SA_RESETHAND), SA_RESETHAND);
}

static void check_actions(void)
{
	struct sigaction old = { 0, 0, 0, 0 };
	unsigned long mask = 0;

	set_handler(SIGSEGV, handler, SA_RESTART | 0x400, sigbit(SIGSTOP) | sigbit(3));
	check("known", sigaction(SIGSEGV, 0, &old), 0);
	check("handler is kept", old.handler == handler, 1);
	check("its flags", (long)old.flags, SA_RESTART | SA_SIGINFO | SA_RESTORER);
	check("its mask", (long)old.mask, sigbit(3));
	check("signal 0", set_handler(0, handler, 0, 0), -EINVAL);
	check("signal 65", set_handler(65, handler, 0, 0), -EINVAL);
	check("SIGKILL", set_handler(SIGKILL, handler, 0, 0), -EINVAL);
	check("ignore SIGSTOP", set_handler(SIGSTOP, SIG_IGN, 0, 0), -EINVAL);
	check("ask for SIGKILL", sigaction(SIGKILL, 0, &old), 0);
	check("mask of the wrong size", syscall6(__NR_rt_sigaction, SIGSEGV, 0, (long)&old, 4, 0, 0), -EINVAL);
	check("action to read-only", syscall6(__NR_rt_sigaction, SIGSEGV, 0, (long)read_only, 8, 0, 0), -EFAULT);
	check("action from nowhere", syscall6(__NR_rt_sigaction, SIGSEGV, 16, 0, 8, 0, 0), -EFAULT);
	check("bad way to block", sigprocmask(9, &mask, 0), -EINVAL);
	check("mask from nowhere", sigprocmask(SIG_BLOCK, (void *)8, 0), -EFAULT);
	block(SIG_SETMASK, -1UL);
	check("all but two", (long)blocked(), (long)~(sigbit(SIGKILL) | sigbit(SIGSTOP)));
	block(SIG_UNBLOCK, ~sigbit(SIGHUP));
	check("one is left", (long)blocked(), sigbit(SIGHUP));
	block(SIG_SETMASK, 0);
}

/* -- sending ----------------------------------------------------------------------------------------------------- */

static void again(int sig, struct siginfo *info, struct ucontext *uc)
{
	handler(sig, info, uc);
	if (seen.count < 3)
		kill(self, sig);
}

static void change_mask(int sig, struct siginfo *info, struct ucontext *uc)
{
	handler(sig, info, uc);
	uc->uc_sigmask |= sigbit(SIGURG) | sigbit(SIGKILL);
}

static void check_kill(void)
{
	unsigned long pending = 0;

	forget();
	set_handler(SIGUSR1, handler, 0, 0);
	set_handler(SIGUSR2, handler, 0, 0);
	check("kill", kill(self, SIGUSR1), 0);
	check("it came", seen.count * 100 + seen.signo, 110);
	check("its code", seen.code, 0);
	check("its sender", seen.pid == self, 1);
	forget();
	check("tgkill", syscall3(__NR_tgkill, self, self, SIGUSR2), 0);
	check("it came too", seen.count * 100 + seen.signo, 112);
	check("its code too", seen.code, SI_TKILL);
	check("tkill", syscall3(__NR_tkill, self, SIGUSR2, 0), 0);
	check("both came", seen.count, 2);
	check("signal that is none", kill(self, 65), -EINVAL);
	check("negative signal", kill(self, -1), -EINVAL);
	check("signal to ask", kill(self, 0), 0);
	check("nobody", kill(0x3fffffff, SIGUSR1), -ESRCH);
	check("thread of another", syscall3(__NR_tgkill, self + 1000000, self, SIGUSR1), -ESRCH);
	check("thread 0", syscall3(__NR_tgkill, self, 0, SIGUSR1), -EINVAL);

	forget();
	block(SIG_BLOCK, sigbit(SIGUSR1) | sigbit(SIGUSR2) | sigbit(SIGRTMIN));
	set_handler(SIGRTMIN, handler, 0, 0);
	kill(self, SIGUSR2);
	kill(self, SIGUSR1);
	kill(self, SIGUSR1);
	check("blocked ones wait", seen.count, 0);
	syscall3(__NR_rt_sigpending, (long)&pending, 8, 0);
	check("they wait", (long)pending, sigbit(SIGUSR1) | sigbit(SIGUSR2));
	block(SIG_UNBLOCK, sigbit(SIGUSR1) | sigbit(SIGUSR2));
	check("both are there at once", seen.count, 2);
	check("the last frame first", order[0] * 100 + order[1], 1210);
	forget();
	kill(self, SIGRTMIN);
	kill(self, SIGRTMIN);
	kill(self, SIGRTMIN);
	block(SIG_UNBLOCK, sigbit(SIGRTMIN));
	check("each of a queue", seen.count, 3);
	forget();
	block(SIG_BLOCK, sigbit(SIGUSR1));
	kill(self, SIGUSR1);
	set_handler(SIGUSR1, SIG_IGN, 0, 0);
	set_handler(SIGUSR1, handler, 0, 0);
	block(SIG_UNBLOCK, sigbit(SIGUSR1));
	check("ignoring forgets", seen.count, 0);
	set_handler(SIGUSR1, SIG_IGN, 0, 0);
	kill(self, SIGUSR1);
	set_handler(SIGUSR1, handler, 0, 0);
	kill(self, SIGURG);
	kill(self, SIGCONT);
	check("ignored ones are lost", seen.count, 0);
	set_handler(SIGCONT, handler, 0, 0);
	kill(self, SIGCONT);
	check("but not where there is a handler", order[0], SIGCONT);
	forget();
	set_handler(SIGUSR1, again, 0, 0);
	kill(self, SIGUSR1);
	check("sent by its handler", seen.count, 3);
	check("one after the other", order[0] == SIGUSR1 && order[2] == SIGUSR1, 1);
	forget();
	set_handler(SIGUSR1, again, SA_NODEFER, 0);
	kill(self, SIGUSR1);
	check("one in the other", seen.count, 3);
	set_handler(SIGUSR1, change_mask, 0, 0);
	kill(self, SIGUSR1);
	check("the handler has changed the mask", (long)blocked(), sigbit(SIGURG));
	block(SIG_SETMASK, 0);
}

/* -- the alternate stack ----------------------------------------------------------------------------------------- */

static unsigned char signal_stack[32768] __attribute__((aligned(16)));

static long altstack(unsigned long size, int flags, struct stack *old)
{
	struct stack ss = { (unsigned long)signal_stack, flags, size };

	return syscall3(__NR_sigaltstack, (long)&ss, (long)old, 0);
}

static long on_it(void)
{
	return seen.sp - (unsigned long)signal_stack < sizeof(signal_stack);
}

static volatile long changed_on_it;

static void change_stack(int sig, struct siginfo *info, struct ucontext *uc)
{
	handler(sig, info, uc);
	changed_on_it = altstack(sizeof(signal_stack), SS_DISABLE, 0);
}

static void check_altstack(void)
{
	struct stack old = { 0, 0, 0 };
	unsigned long here;

	check("alternate stack", altstack(sizeof(signal_stack), 0, &old), 0);
	check("there was none", old.ss_flags, SS_DISABLE);
	set_handler(SIGSEGV, handler, SA_ONSTACK, 0);
	store(read_only);
	check("handler was on it", on_it(), 1);
	check("flags in the frame", (long)seen.stack_flags, 0);
	set_handler(SIGSEGV, handler, 0, 0);
	store(read_only);
	check("handler is not on it", on_it(), 0);
	here = (unsigned long)&here & -PAGE;
	store_on_stack(read_only + 2, here - 300 * PAGE);
	check("the frame grows the stack", (long)(seen.addr - read_only), 2);
	check("which has it", (here - seen.sp) / PAGE - 300 < 4, 1);
	store_on_stack(read_only + 2, (unsigned long)signal_stack + sizeof(signal_stack) - 64);
	check("the program's own choice", on_it(), 1);
	set_handler(SIGSEGV, handler, SA_ONSTACK, 0);
	store_on_stack(read_only + 1, 16);
	check("handled without a stack", seen.count * on_it(), 1);
	check("and its address", (long)(seen.addr - read_only), 1);
	set_handler(SIGSEGV, change_stack, SA_ONSTACK, 0);
	store(read_only);
	check("not while it is in use", changed_on_it, -EPERM);
	set_handler(SIGSEGV, handler, SA_ONSTACK, 0);
	check("too small", altstack(100, 0, 0), -ENOMEM);
	check("bad flags", altstack(sizeof(signal_stack), 7, 0), -EINVAL);
	check("still the old one", syscall3(__NR_sigaltstack, 0, (long)&old, 0), 0);
	check("its size", (long)old.ss_size, sizeof(signal_stack));
	check("autodisarm", altstack(sizeof(signal_stack), SS_AUTODISARM, 0), 0);
	set_handler(SIGSEGV, change_stack, SA_ONSTACK, 0);
	store(read_only);
	check("disarmed in the handler", changed_on_it * 10 + on_it(), 1);
	check("armed after it", syscall3(__NR_sigaltstack, 0, (long)&old, 0), 0);
	check("its flags again", old.ss_flags == SS_AUTODISARM, 1);
	check("none", altstack(0, SS_DISABLE, 0), 0);
	set_handler(SIGSEGV, handler, SA_ONSTACK, 0);
	store(read_only);
	check("none to be on", on_it(), 0);
	check("stack from nowhere", syscall3(__NR_sigaltstack, 8, 0, 0), -EFAULT);
}

/* -- children ---------------------------------------------------------------------------------------------------- */

static volatile unsigned int never;

/* 30 ms, or until a signal comes */
static long pause_a_while(void)
{
	long time[2] = { 0, 30000000 };

	return syscall6(__NR_futex, (long)&never, FUTEX_WAIT, 0, (long)time, 0, 0);
}

static long wait_for(long pid)
{
	int status = -1;
	long got = wait4(pid, &status, 0);

	return got == pid ? status : got;
}

static __attribute__((noreturn)) void sleep_for_ever(void)
{
	for (;;)
		futex_wait(&never, 0);
}

static void exit_in_handler(int sig, struct siginfo *info, struct ucontext *uc)
{
	(void)info;
	(void)uc;
	exit_group(sig);
}

static long killed_by(int sig)
{
	long pid = fork();

	if (!pid)
		sleep_for_ever();
	kill(pid, sig);
	return wait_for(pid) & 0x7f;
}

/* a child whose handler goes on at `address` */
static long goes_on_at(unsigned long address)
{
	long pid = fork();

	if (!pid) {
		set_handler(SIGSEGV, handler, SA_RESETHAND, 0);
		resume = address;
		*(volatile char *)read_only = 1;
		exit_group(0);
	}
	return wait_for(pid) & 0x7f;
}

static void check_children(void)
{
	unsigned long none = 0;
	long pid;

	forget();
	check("child by SIGTERM", killed_by(SIGTERM), SIGTERM);
	check("child by SIGKILL", killed_by(SIGKILL), SIGKILL);
	check("child by SIGABRT", killed_by(SIGABRT), SIGABRT);
	check("child by a real-time one", killed_by(SIGRTMIN + 5), SIGRTMIN + 5);
	block(SIG_BLOCK, sigbit(SIGTERM));
	pid = fork();
	if (!pid) {
		set_handler(SIGTERM, exit_in_handler, 0, 0);
		syscall3(__NR_rt_sigsuspend, (long)&none, 8, 0);
		exit_group(0);
	}
	check("zombies can be asked", kill(pid, SIGTERM), 0);
	check("child exits in its handler", wait_for(pid), SIGTERM << 8);
	check("gone", kill(pid, 0), -ESRCH);
	pid = fork();
	if (!pid) {
		block(SIG_UNBLOCK, sigbit(SIGTERM));
		sleep_for_ever();
	}
	kill(pid, SIGTERM);
	check("killed when unblocked", wait_for(pid), SIGTERM);
	block(SIG_UNBLOCK, sigbit(SIGTERM));
	pid = fork();
	if (!pid) {
		set_handler(SIGSEGV, handler, 0, 0);
		store_on_stack(read_only, 16);
		exit_group(0);
	}
	check("child without a stack", wait_for(pid) & 0x7f, SIGSEGV);
	pid = fork();
	if (!pid) {
		set_handler(SIGSEGV, SIG_DFL, 0, 0);
		return_to_nowhere();
		exit_group(0);
	}
	check("child that returns to nowhere", wait_for(pid) & 0x7f, SIGSEGV);
	check("child that goes on at nothing", goes_on_at(64), SIGSEGV);
	check("child that goes on in the kernel", goes_on_at(-PAGE), SIGSEGV);
	check("child that goes on between the halves", goes_on_at(1UL << 62), SIGSEGV);

	set_handler(SIGCHLD, handler, 0, 0);
	block(SIG_BLOCK, sigbit(SIGCHLD));
	forget();
	pid = fork();
	if (!pid)
		exit_group(5);
	while (!seen.count)
		syscall3(__NR_rt_sigsuspend, (long)&none, 8, 0);
	check("SIGCHLD", seen.signo, SIGCHLD);
	check("child exited", seen.code, CLD_EXITED);
	check("with", seen.status, 5);
	check("it was that child", seen.pid == pid, 1);
	check("mask during sigsuspend", (long)seen.mask, sigbit(SIGCHLD));
	check("mask after it", (long)seen.saved_mask, sigbit(SIGCHLD));
	check("it can be waited for", wait_for(pid), 5 << 8);
	forget();
	check("killed child", killed_by(SIGKILL), SIGKILL);
	block(SIG_UNBLOCK, sigbit(SIGCHLD));
	check("child was killed", seen.code * 100 + seen.status, CLD_KILLED * 100 + SIGKILL);
	set_handler(SIGCHLD, SIG_IGN, 0, 0);
	pid = fork();
	if (!pid)
		exit_group(5);
	check("nobody to wait for", wait_for(pid), -ECHILD);
	set_handler(SIGCHLD, handler, SA_NOCLDWAIT, 0);
	forget();
	pid = fork();
	if (!pid)
		exit_group(5);
	check("not wanted", wait_for(pid), -ECHILD);
	check("but told", seen.count * 100 + seen.status, 105);
	set_handler(SIGCHLD, SIG_DFL, 0, 0);
}

/* a child that interrupts its parent after a while and ends after another */
static long disturber(int sig)
{
	long pid = fork();

	if (!pid) {
		pause_a_while();
		kill(self, sig);
		pause_a_while();
		exit_group(9);
	}
	return pid;
}

static void check_interrupted(void)
{
	long pid, time[2] = { 5, 0 };

	set_handler(SIGUSR1, handler, 0, 0);
	forget();
	pid = disturber(SIGUSR1);
	check("wait4 is interrupted", wait_for(pid), -EINTR);
	check("by", seen.signo, SIGUSR1);
	check("again", wait_for(pid), 9 << 8);
	set_handler(SIGUSR1, handler, SA_RESTART, 0);
	forget();
	pid = disturber(SIGUSR1);
	check("wait4 goes on", wait_for(pid), 9 << 8);
	check("after", seen.count * 100 + seen.signo, 110);
	set_handler(SIGUSR1, handler, 0, 0);
	pid = disturber(SIGUSR1);
	check("futex is interrupted", futex_wait(&never, 0), -EINTR);
	wait_for(pid);
	pid = disturber(SIGUSR1);
	check("futex with a timeout", syscall6(__NR_futex, (long)&never, FUTEX_WAIT, 0, (long)time, 0, 0), -EINTR);
	wait_for(pid);
	set_handler(SIGUSR1, handler, SA_RESTART, 0);
	pid = disturber(SIGUSR1);
	check("which is not restarted", syscall6(__NR_futex, (long)&never, FUTEX_WAIT, 0, (long)time, 0, 0), -EINTR);
	wait_for(pid);
	check("nothing to restart", syscall3(__NR_restart_syscall, 0, 0, 0), -EINTR);
	check("time runs out", pause_a_while(), -ETIMEDOUT);
	check("changed value", futex_wait(&never, 1), -EAGAIN);
}

/* -- each architecture's own ------------------------------------------------------------------------------------- */

#ifdef __x86_64__
#define TRAP(insn) do { forget(); GUARDED(insn, : : : "rax", "rcx", "rdx", "memory"); resume = 0; } while (0)

static volatile unsigned int handler_mxcsr, frame_mxcsr, magic1, magic2;
static volatile unsigned short handler_fcw;
static volatile unsigned long frame_flags, frame_err, frame_trapno, aligned;
static volatile unsigned char frame_xmm;

static void look_at_fpu(int sig, struct siginfo *info, struct ucontext *uc)
{
	unsigned int mxcsr;
	unsigned short fcw;
	unsigned char *fp = uc->fpstate;

	(void)info;
	(void)sig;
	__asm__ __volatile__("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	handler_mxcsr = mxcsr;
	handler_fcw = fcw;
	frame_mxcsr = *(unsigned int *)(fp + 24);
	frame_xmm = fp[160];
	magic1 = *(unsigned int *)(fp + 464);
	magic2 = *(unsigned int *)(fp + *(unsigned int *)(fp + 468) - 4);
	frame_flags = uc->uc_flags;
	frame_err = uc->err;
	frame_trapno = uc->trapno;
	aligned = (unsigned long)fp & 63;
	fp[160]++;
	*(unsigned int *)(fp + 24) |= 0x8000;
	if (resume)
		uc->uc_pc = resume;
	__asm__ __volatile__("pxor %%xmm0, %%xmm0" ::: "memory");
}

static void check_own(void)
{
	unsigned int mxcsr = 0x5f80, after = 0;
	unsigned short fcw = 0x27f, fcw_after = 0;
	unsigned long value = 0x41, value_after = 0;
	struct sigaction without = { handler, SA_SIGINFO, 0, 0 };
	long pid;

	set_handler(SIGTRAP, handler, 0, 0);
	set_handler(SIGILL, handler, 0, 0);
	set_handler(SIGFPE, handler, 0, 0);
	set_handler(SIGBUS, handler, 0, 0);
	TRAP("int3");
	check("x86 int3", seen.signo * 1000 + seen.code, SIGTRAP * 1000 + 0x80);
	check("x86 int3 address", (long)seen.addr, 0);
	pid = fork();
	if (!pid) {
		set_handler(SIGSEGV, SIG_DFL, 0, 0);
		sigaction(SIGUSR1, &without, 0);
		kill(syscall3(__NR_getpid, 0, 0, 0), SIGUSR1);
		exit_group(0);
	}
	check("x86 handler without a restorer", wait_for(pid) & 0x7f, SIGSEGV);
	TRAP("ud2");
	check("x86 ud2", seen.signo * 1000 + seen.code, SIGILL * 1000 + 2);
	check("x86 ud2 address", seen.addr + 2 == resumed, 1);
	TRAP("xorl %%edx, %%edx\n\txorl %%ecx, %%ecx\n\tdivl %%ecx");
	check("x86 divide by zero", seen.signo * 1000 + seen.code, SIGFPE * 1000 + 1);
	TRAP("hlt");
	check("x86 hlt", seen.signo * 1000 + seen.code, SIGSEGV * 1000 + 0x80);
	store(1UL << 62);
	check("x86 address of no half", seen.signo * 1000 + seen.code, SIGSEGV * 1000 + 0x80);
	set_handler(SIGSEGV, look_at_fpu, 0, 0);
	__asm__ __volatile__("ldmxcsr %0\n\tfldcw %1\n\tmovq %2, %%xmm0" :: "m"(mxcsr), "m"(fcw), "m"(value));
	store(read_only);
	__asm__ __volatile__("stmxcsr %0\n\tfnstcw %1\n\tmovq %%xmm0, %2"
			     : "=m"(after), "=m"(fcw_after), "=m"(value_after));
	check("x86 mxcsr in the handler", handler_mxcsr, 0x1f80);
	check("x86 fcw in the handler", handler_fcw, 0x37f);
	check("x86 mxcsr in the frame", frame_mxcsr, 0x5f80);
	check("x86 xmm0 in the frame", frame_xmm, 0x41);
	check("x86 mxcsr that the handler changed", after, 0xdf80);
	check("x86 fcw afterwards", fcw_after, 0x27f);
	check("x86 xmm0 that the handler changed", (long)value_after, 0x42);
	check("x86 first magic", magic1, 0x46505853);
	check("x86 last magic", magic2, 0x46505845);
	check("x86 place of the state", (long)aligned, 0);
	check("x86 uc_flags", (long)frame_flags, 7);
	check("x86 trap number", (long)frame_trapno, 14);
	check("x86 error code", (long)frame_err, 7);
}
#else
#define TRAP(insn) do { forget(); GUARDED(insn, : : : "x9", "x10", "memory"); resume = 0; } while (0)

static volatile unsigned long fpsimd, esr, records, frame_v0, frame_fpcr, chain;

static void look_at_records(int sig, struct siginfo *info, struct ucontext *uc)
{
	unsigned char *at = uc->reserved;

	(void)info;
	(void)sig;
	records = 0;
	chain = (unsigned long)__builtin_frame_address(0);
	while (*(unsigned int *)at && records < 8) {
		if (*(unsigned int *)at == 0x46508001) {
			fpsimd = *(unsigned int *)(at + 4);
			frame_fpcr = *(unsigned int *)(at + 12);
			frame_v0 = (*(unsigned long *)(at + 16))++;
		} else if (*(unsigned int *)at == 0x45535201) {
			esr = *(unsigned long *)(at + 8);
		}
		records++;
		at += *(unsigned int *)(at + 4);
	}
	__asm__ __volatile__(".arch_extension simd\n\tmovi v0.2d, #0");
	if (resume)
		uc->uc_pc = resume;
}

static void check_own(void)
{
	unsigned long value = 0x41, after = 0, fpcr = 0x400000;
	struct sigaction without = { handler, SA_SIGINFO, 0, 0 };

	set_handler(SIGTRAP, handler, 0, 0);
	set_handler(SIGILL, handler, 0, 0);
	set_handler(SIGBUS, handler, 0, 0);
	TRAP("brk #1");
	check("arm64 brk", seen.signo * 1000 + seen.code, SIGTRAP * 1000 + 1);
	TRAP("udf #0");
	check("arm64 udf", seen.signo * 1000 + seen.code, SIGILL * 1000 + 1);
	check("arm64 udf address", seen.addr + 4 == resumed, 1);
	forget();
	sigaction(SIGUSR1, &without, 0);
	kill(self, SIGUSR1);
	check("arm64 handler without a restorer", seen.count, 1);
	set_handler(SIGSEGV, look_at_records, 0, 0);
	__asm__ __volatile__(".arch_extension simd\n\tfmov d0, %0\n\tmsr fpcr, %1" :: "r"(value), "r"(fpcr));
	store(read_only);
	__asm__ __volatile__(".arch_extension simd\n\tfmov %0, d0\n\tmsr fpcr, xzr" : "=r"(after));
	check("arm64 records", (long)records, 2);
	check("arm64 fpsimd_context", (long)fpsimd, 528);
	check("arm64 v0 in the frame", (long)frame_v0, 0x41);
	check("arm64 fpcr in the frame", (long)frame_fpcr, 0x400000);
	check("arm64 v0 that the handler changed", (long)after, 0x42);
	check("arm64 esr: class, write, permission", (long)(esr >> 26 << 8 | (esr & 0x40) | (esr & 0x3c)), 0x244c);
	check("arm64 frame record", chain != 0, 1);
}
#endif

__attribute__((noreturn)) void _start(void)
{
	self = syscall3(__NR_getpid, 0, 0, 0);
	read_only = (unsigned long)map_page(PROT_READ);
	(void)*(volatile char *)read_only;	/* it is there */
	check_handler();
	check_actions();
	check_kill();
	check_altstack();
	check_children();
	check_interrupted();
	check_own();
	check("wrong", wrong, 0);
	exit_group(wrong ? 1 : 0);
}
