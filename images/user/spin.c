// SPDX-License-Identifier: GPL-2.0-only
/* Two threads take turns, and the first one waits for both, without a system call: only the timer ends a wait. */
#include <syscall.h>

#define TURNS 5
#define ROUNDS 20000	/* each of a few blocks: more than one tick */

static unsigned char stacks[2][4096] __attribute__((aligned(16)));
shared unsigned int turn;	/* whose turn it is; neither's: they wait for ever */
shared unsigned int finished;
shared unsigned long sums[2];	/* what each has computed meanwhile */
shared unsigned long patience[2];	/* struct timespec: where not 0, the first one gives up after this time */
shared long slept;

static void take_turns(void *arg)
{
	unsigned int me = (unsigned int)(unsigned long)arg;
	unsigned long x = me + 1;

	for (int i = 0; i < TURNS; i++) {
		while (turn != me)
			;
		for (int j = 0; j < ROUNDS; j++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			if (x % 3 == 0)
				x += (unsigned long)j;
		}
		turn = 1 - me;
	}
	sums[me] = x;
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	exit_thread(0);
}

__attribute__((noreturn)) void _start(void)
{
	for (unsigned long i = 0; i < 2; i++)
		thread_create(take_turns, (void *)i, stacks[i] + sizeof(stacks[i]));
	if (patience[0] || patience[1])
		slept = syscall6(__NR_futex, (long)&finished, FUTEX_WAIT, 0, (long)patience, 0, 0);
	else
		while (finished != 2)
			;
	exit_group(5);
}
