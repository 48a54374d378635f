// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread or a child that computes and never enters the kernel by itself, and a signal for it: it takes the signal, or
 * dies of it, before it gets any further.
 */
#include <signal.h>

enum operation { THREAD, CHILD };

shared int operation;
shared int sig = SIGUSR1;
shared unsigned long sent, seen;	/* how far it was when the signal was sent, and when it took it */
shared int status;
static volatile unsigned long *turns;
static unsigned char stack[16384] __attribute__((aligned(16)));

static void handler(int signo, struct siginfo *info, struct ucontext *uc)
{
	(void)signo;
	(void)info;
	(void)uc;
	seen = *turns;
}

static void spin(void *arg)
{
	(void)arg;
	for (;;)
		++*turns;
}

__attribute__((noreturn)) void _start(void)
{
	long self = syscall3(__NR_getpid, 0, 0, 0), who;

	turns = (unsigned long *)syscall6(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*turns = 0;
	set_handler(sig, handler, 0, 0);
	if (operation == THREAD) {
		who = thread_create(spin, 0, stack + sizeof(stack));
	} else {
		set_handler(sig, SIG_DFL, 0, 0);
		who = fork();
		if (!who)
			spin(0);
	}
	while (!*turns)
		;
	sent = *turns;
	if (operation == CHILD) {
		kill(who, sig);
		wait4(who, (int *)&status, 0);
		seen = *turns;
	} else {
		syscall3(__NR_tgkill, self, who, sig);
		while (!seen)
			;
	}
	exit_group(5);
}
