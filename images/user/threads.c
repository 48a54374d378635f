// SPDX-License-Identifier: GPL-2.0-only
/* Two threads take turns on a futex word and count; the first one waits for both. */
#include <syscall.h>

#define TURNS 10

static unsigned char stacks[2][4096] __attribute__((aligned(16)));
shared unsigned int turn;	/* whose turn it is */
shared unsigned int finished;
shared unsigned int counts[2];
shared long ids[3];

static void take_turns(void *arg)
{
	unsigned int me = (unsigned int)(unsigned long)arg;

	for (int i = 0; i < TURNS; i++) {
		while (turn != me)
			futex_wait(&turn, 1 - me);
		counts[me]++;
		turn = 1 - me;
		futex_wake(&turn, 1);
	}
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	futex_wake(&finished, 1);
	exit_thread(0);
}

__attribute__((noreturn)) void _start(void)
{
	unsigned int seen;

	ids[0] = syscall3(__NR_getpid, 0, 0, 0);
	for (unsigned long i = 0; i < 2; i++)
		ids[1 + i] = thread_create(take_turns, (void *)i, stacks[i] + sizeof(stacks[i]));
	while ((seen = finished) != 2)
		futex_wait(&finished, seen);
	exit_group(7);
}
