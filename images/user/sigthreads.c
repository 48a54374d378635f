// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals and threads: which one gets a signal, what they share, what a signal that another takes does to a wait. The
 * exit code is 0 where everything was as it should be.
 */
#include <print.h>
#include <signal.h>

#define THREADS 3
#define EINTR 4
#define ETIMEDOUT 110

static unsigned char stacks[THREADS][32768] __attribute__((aligned(16)));
static volatile unsigned int step, taken[THREADS + 1], finished, never;
shared long waits[2];	/* what the waits gave that a thread was to be woken from */
shared unsigned int thieves;	/* how often it was not the waiting thread that took the signal */
static volatile long ids[THREADS];
static long self;
static int wrong;

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

/* Counts for the thread on whose stack it runs; the first thread has another one. */
static void handler(int sig, struct siginfo *info, struct ucontext *uc)
{
	unsigned long at = (unsigned long)&uc - (unsigned long)stacks;

	(void)sig;
	(void)info;
	__atomic_fetch_add(&taken[at < sizeof(stacks) ? at / sizeof(stacks[0]) : THREADS], 1, __ATOMIC_SEQ_CST);
}

static unsigned int total(void)
{
	unsigned int sum = 0;

	for (int i = 0; i <= THREADS; i++)
		sum += taken[i];
	return sum;
}

static void forget(void)
{
	for (int i = 0; i <= THREADS; i++)
		taken[i] = 0;
}

static void wait_until(volatile unsigned int *word, unsigned int value)
{
	unsigned int now;

	while ((now = *word) < value)
		futex_wait(word, now);
}

static void advance(volatile unsigned int *word)
{
	__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	futex_wake(word, 100);
}

static void block(int how, unsigned long mask)
{
	sigprocmask(how, &mask, 0);
}

/* The second takes process-wide signals that the first has blocked; all are interrupted by name. */
static void other(void *arg)
{
	unsigned long me = (unsigned long)arg, mask = 0;

	sigprocmask(SIG_BLOCK, 0, &mask);
	if (mask != sigbit(SIGUSR2))
		__atomic_fetch_add(&wrong, 1, __ATOMIC_SEQ_CST);
	ids[me] = syscall3(__NR_gettid, 0, 0, 0);
	if (me == 1)
		block(SIG_UNBLOCK, sigbit(SIGUSR2));
	advance(&finished);
	while (step < 2)
		futex_wait(&step, step);
	exit_thread(0);
}

static void pause_a_while(void)
{
	static volatile unsigned int word;
	long time[2] = { 0, 30000000 };

	syscall6(__NR_futex, (long)&word, FUTEX_WAIT, 0, (long)time, 0, 0);
}

/*
 * The first thread sleeps in a wait, and is woken for a signal of the process. Where this one is quick enough it takes
 * that signal, and the other finds none: its wait goes on as if nothing had been.
 */
static void thief(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		pause_a_while();
		kill(self, SIGUSR2);
		block(SIG_BLOCK, 0);
		pause_a_while();
		pause_a_while();
		pause_a_while();
		pause_a_while();
		advance(&step);
	}
	exit_thread(0);
}

static __attribute__((noreturn)) void sleep_for_ever(void)
{
	for (;;)
		futex_wait(&never, 0);
}

/* Sends signals to the first thread, whatever that is doing. */
static void fire(void *arg)
{
	(void)arg;
	for (int i = 0; i < 30; i++) {
		syscall3(__NR_tgkill, self, self, SIGUSR1);
		syscall3(__NR_sched_yield, 0, 0, 0);
	}
	advance(&step);
	exit_thread(0);
}

static void sleeper(void *arg)
{
	(void)arg;
	sleep_for_ever();
}

/* a process of two threads, killed: by `sig` to one of them or to both */
static long kill_group(int sig, int one)
{
	long pid = fork();
	int status = 0;

	if (!pid) {
		long thread = thread_create(sleeper, 0, stacks[0] + sizeof(stacks[0]));

		if (one)
			syscall3(__NR_tgkill, syscall3(__NR_getpid, 0, 0, 0), thread, sig);
		sleep_for_ever();
	}
	if (!one)
		kill(pid, sig);
	return wait4(pid, &status, 0) == pid ? status & 0x7f : -1;
}

__attribute__((noreturn)) void _start(void)
{
	long time[2] = { 0, 60000000 };

	self = syscall3(__NR_getpid, 0, 0, 0);
	set_handler(SIGUSR1, handler, SA_RESTART, 0);
	block(SIG_BLOCK, sigbit(SIGUSR2));
	for (unsigned long i = 0; i < THREADS; i++)
		thread_create(other, (void *)i, stacks[i] + sizeof(stacks[i]));
	wait_until(&finished, THREADS);
	check("masks are inherited", wrong, 0);
	for (unsigned long i = 0; i < THREADS; i++)
		syscall3(__NR_tgkill, self, ids[i], SIGUSR1);
	while (total() < THREADS)
		syscall3(__NR_sched_yield, 0, 0, 0);
	check("each got its own", taken[0] * 100 + taken[1] * 10 + taken[2], 111);
	forget();
	set_handler(SIGUSR2, handler, SA_RESTART, 0);	/* of all threads: they share their actions */
	for (int i = 1; i <= 5; i++) {
		kill(self, SIGUSR2);
		while (total() < (unsigned int)i)
			syscall3(__NR_sched_yield, 0, 0, 0);
	}
	check("the one that does not block it", taken[1], 5);
	forget();
	block(SIG_UNBLOCK, sigbit(SIGUSR2));
	kill(self, SIGUSR2);
	check("the first thread where it can", taken[THREADS], 1);
	step = 2;
	futex_wake(&step, 100);

	check("SIGTERM to all", kill_group(SIGTERM, 0), SIGTERM);
	check("SIGKILL to all", kill_group(SIGKILL, 0), SIGKILL);
	check("SIGABRT to all", kill_group(SIGABRT, 0), SIGABRT);
	check("SIGTERM to one", kill_group(SIGTERM, 1), SIGTERM);
	check("SIGABRT to one", kill_group(SIGABRT, 1), SIGABRT);

	forget();
	step = 0;
	set_handler(SIGUSR2, handler, 0, 0);
	thread_create(thief, 0, stacks[0] + sizeof(stacks[0]));
	waits[0] = syscall6(__NR_futex, (long)&step, FUTEX_WAIT, 0, (long)time, 0, 0);
	wait_until(&step, 1);
	waits[1] = futex_wait(&step, 1);
	wait_until(&step, 2);
	thieves = taken[0];
	check("interrupted where it took the signal itself", (waits[0] == -EINTR) + (waits[1] == -EINTR), taken[THREADS]);
	check("not where it did not", (waits[0] == -ETIMEDOUT) + (waits[1] == 0), taken[0]);
	check("both came", total(), 2);

	step = 0;
	thread_create(fire, 0, stacks[1] + sizeof(stacks[1]));
	for (int i = 0; i < 4; i++) {
		int status = 0;
		long pid = fork();

		if (!pid)
			exit_group(3);
		check("child under fire", wait4(pid, &status, 0) == pid ? status : -1, 3 << 8);
	}
	wait_until(&step, 1);
	check("wrong", wrong, 0);
	exit_group(wrong ? 1 : 0);
}
