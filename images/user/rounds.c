// SPDX-License-Identifier: GPL-2.0-only
/* Does one small thing many times, to be measured from outside: system calls, turns of two tasks, page faults. */
#include <syscall.h>

#define PAGE 4096UL

enum { GETPID, YIELD, TOUCH };

static unsigned char stack[4096] __attribute__((aligned(16)));
shared int what;
shared unsigned int count;
shared unsigned int stop;

/* The other thread of a pair that does nothing but let the other one go first. */
static void other(void *arg)
{
	(void)arg;
	while (!stop)
		syscall3(__NR_sched_yield, 0, 0, 0);
	exit_thread(0);
}

__attribute__((noreturn)) void _start(void)
{
	volatile unsigned char *fresh;

	switch (what) {
	case GETPID:
		for (unsigned int i = 0; i < count; i++)
			syscall3(__NR_getpid, 0, 0, 0);
		break;
	case YIELD:
		thread_create(other, 0, stack + sizeof(stack));
		for (unsigned int i = 0; i < count; i++)
			syscall3(__NR_sched_yield, 0, 0, 0);
		stop = 1;
		break;
	case TOUCH:
		fresh = (unsigned char *)syscall6(__NR_mmap, 0, (long)(count * PAGE), PROT_READ | PROT_WRITE,
						  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (unsigned int i = 0; i < count; i++)
			fresh[i * PAGE] = 1;
		break;
	}
	exit_group(0);
}
