// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two threads of one process. One cuts and joins mappings (mprotect, munmap, mmap next to its own), the other writes to
 * memory that the first one only ever makes more permissive, and drops it again: what it writes it must read back.
 */
#include <syscall.h>

#define PAGE 4096UL
#define NPAGES 6
#define PROT_EXEC 4

static unsigned char stacks[2][4096] __attribute__((aligned(16)));
shared unsigned int rounds = 2;
shared unsigned int finished;
shared unsigned int errors;
shared long common;

static long map(unsigned long length)
{
	return syscall6(__NR_mmap, 0, (long)length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void expect(long got, long wanted)
{
	if (got != wanted)
		__atomic_fetch_add(&errors, 1, __ATOMIC_SEQ_CST);
}

static void done(void)
{
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	futex_wake(&finished, 1);
	exit_thread(0);
}

static void cutter(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < rounds; i++) {
		volatile long *own = (volatile long *)map(3 * PAGE);

		own[0] = i + 1;
		expect(syscall3(__NR_mprotect, common + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
		expect(syscall3(__NR_munmap, (long)own + PAGE, PAGE, 0), 0);
		expect(syscall3(__NR_mprotect, common + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE), 0);
		expect(own[0], i + 1);
		expect(syscall3(__NR_munmap, (long)own, 3 * PAGE, 0), 0);
		expect(syscall3(__NR_munmap, (long)own + 1, PAGE, 0), -22);
		expect(syscall3(__NR_mprotect, (long)own, PAGE, PROT_READ), -12);
	}
	done();
}

static void writer(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned long page = 0; page < NPAGES; page++) {
			volatile long *word = (volatile long *)(common + page * PAGE);

			expect(*word, 0);
			*word = page + i;
			expect(*word, page + i);
		}
		for (unsigned long page = 0; page < NPAGES; page += 2)
			expect(syscall3(__NR_madvise, common + page * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	}
	done();
}

__attribute__((noreturn)) void _start(void)
{
	unsigned int seen;

	common = map(NPAGES * PAGE);
	thread_create(cutter, 0, stacks[0] + sizeof(stacks[0]));
	thread_create(writer, 0, stacks[1] + sizeof(stacks[1]));
	while ((seen = finished) != 2)
		futex_wait(&finished, seen);
	expect(syscall3(__NR_munmap, common, NPAGES * PAGE, 0), 0);
	exit_group(errors ? 1 : 0);
}
