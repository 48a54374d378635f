// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ends by a signal without a handler: by an exception of the CPU, or by one that it or a thread of its sends. Or touches
 * a page with handlers in place, and keeps what they saw.
 */
#include <signal.h>

enum operation { BREAKPOINT, UNDEFINED, DIVIDE, PRIVILEGED, KILL, THREAD_KILLS, KILLED_CHILD, CATCH };

shared int operation;
shared int sig = SIGTERM;
shared int target;		/* whom it is sent to; 0: the process itself */
shared unsigned long where;	/* of the instruction */
shared int status;
shared struct { int signo, code; unsigned long addr, page; } caught;
static volatile unsigned int never;
static unsigned char stack[16384] __attribute__((aligned(16)));

static void catch(int sig, struct siginfo *info, struct ucontext *uc)
{
	(void)uc;
	caught.signo = sig;
	caught.code = info->si_code;
	caught.addr = info->si_addr;
	exit_group(5);
}

static void kill_all(void *arg)
{
	(void)arg;
	kill(target ? target : syscall3(__NR_getpid, 0, 0, 0), sig);
	for (;;)
		futex_wait(&never, 0);
}

#ifdef __x86_64__
#define AT(insn) __asm__ __volatile__("leaq 1f(%%rip), %%rax\n\tmovq %%rax, where(%%rip)\n1:\t" insn : : : "rax", "memory")
#else
#define AT(insn) __asm__ __volatile__("adr x9, 1f\n\tadrp x10, where\n\tstr x9, [x10, :lo12:where]\n1:\t" insn \
				      : : : "x9", "x10", "memory")
#endif

__attribute__((noreturn)) void _start(void)
{
	long pid;

	switch (operation) {
#ifdef __x86_64__
	case BREAKPOINT:
		AT("int3");
		break;
	case UNDEFINED:
		AT("ud2");
		break;
	case DIVIDE:
		__asm__ __volatile__("xorl %%edx, %%edx\n\txorl %%ecx, %%ecx" ::: "rcx", "rdx");
		AT("divl %%ecx");
		break;
	case PRIVILEGED:
		AT("hlt");
		break;
#else
	case BREAKPOINT:
		AT("brk #1");
		break;
	case UNDEFINED:
		AT("udf #0");
		break;
	case PRIVILEGED:
		AT("msr daifset, #2");
		break;
#endif
	case KILL:
		kill_all(0);
		break;
	case THREAD_KILLS:
		thread_create(kill_all, 0, stack + sizeof(stack));
		for (;;)
			futex_wait(&never, 0);
	case CATCH:
		set_handler(SIGBUS, catch, 0, 0);
		set_handler(SIGSEGV, catch, 0, 0);
		caught.page = (unsigned long)syscall6(__NR_mmap, 0, 8192, PROT_READ | PROT_WRITE,
						      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		*(volatile char *)(caught.page + 4099) = 1;
		exit_group(0);
	case KILLED_CHILD:
		pid = fork();
		if (!pid) {
			for (;;)	/* no way back into the kernel */
				__asm__ __volatile__("");
		}
		kill(pid, sig);
		exit_group(wait4(pid, (int *)&status, 0) == pid ? 0 : 1);
	}
	exit_group(99);
}
