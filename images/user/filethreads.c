// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads on the same files. Two read descriptor 3 through its one position: together they get each byte once. One cuts a
 * file in memory and lets it grow again, while another maps, copies and unmaps the page of it that always stays.
 */
#include <files.h>

#define CHUNK 48
#define NPAGES 4

static unsigned char stacks[4][4096] __attribute__((aligned(16)));
shared unsigned int rounds = 3;
shared unsigned int finished;
shared unsigned int errors;
shared long got[2];	/* bytes that each reader read */
shared long total;	/* of what they read, added up */
static long memory;

static void expect(long value, long wanted)
{
	if (value != wanted)
		__atomic_fetch_add(&errors, 1, __ATOMIC_SEQ_CST);
}

static void thread_end(void)
{
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	futex_wake(&finished, 1);
	exit_thread(0);
}

static void reader(void *arg)
{
	long number = (long)arg, n;

	for (;;) {
		/* a page that nobody has touched: the copy must fault */
		volatile unsigned char *fresh = (volatile unsigned char *)map(-1, RW, MAP_PRIVATE | MAP_ANONYMOUS, 1, 0);

		n = syscall3(__NR_read, 3, (long)fresh, CHUNK);
		if (n <= 0)
			break;
		got[number] += n;
		for (long i = 0; i < n; i++)
			__atomic_fetch_add(&total, fresh[i], __ATOMIC_SEQ_CST);
		expect(munmap(fresh, 1), 0);
	}
	expect(n, 0);
	thread_end();
}

static void cutter(void *arg)
{
	unsigned char page[64];

	(void)arg;
	for (unsigned int i = 0; i < rounds; i++) {
		expect(syscall3(__NR_ftruncate, memory, PAGE, 0), 0);
		expect(pread(memory, page, 64, 2 * PAGE), 0);
		expect(syscall3(__NR_ftruncate, memory, NPAGES * PAGE, 0), 0);
		expect(pread(memory, page, 64, 2 * PAGE), 64);
		expect(page[0] + page[63], 0);
		page[0] = 0xee;
		expect(pwrite(memory, page, 1, 2 * PAGE + 5), 1);
		expect(pread(memory, page, 8, 2 * PAGE), 8);
		expect(page[5], 0xee);
	}
	thread_end();
}

static void mapper(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < rounds; i++) {
		volatile unsigned char *private = (volatile unsigned char *)map(memory, RW, MAP_PRIVATE, NPAGES, 0);
		volatile unsigned char *both = (volatile unsigned char *)map(memory, RW, MAP_SHARED, NPAGES, 0);

		expect(private[0], i);
		both[0] = (unsigned char)(i + 1);
		expect(private[0], i + 1);
		private[0] = 0x80;
		both[1] = 0x90;
		expect(private[0] + private[1], 0x80);
		expect(syscall3(__NR_mprotect, (long)both + PAGE, PAGE, PROT_NONE), 0);
		expect(munmap(private + PAGE, 2), 0);
		both[1] = 0;
		expect(both[0], i + 1);
		expect(private[0], 0x80);
		/* not over the hole: another thread may have found it */
		expect(munmap(private, 1) | munmap(private + 3 * PAGE, NPAGES - 3) | munmap(both, NPAGES), 0);
	}
	thread_end();
}

__attribute__((noreturn)) void _start(void)
{
	static void (*const bodies[])(void *) = { reader, reader, cutter, mapper };
	unsigned int seen;

	memory = syscall3(__NR_memfd_create, (long)"memory", 0, 0);
	expect(syscall3(__NR_ftruncate, memory, PAGE, 0), 0);
	for (long i = 0; i < 4; i++)
		thread_create(bodies[i], (void *)i, stacks[i] + sizeof(stacks[i]));
	while ((seen = finished) != 4)
		futex_wait(&finished, seen);
	exit_group(errors ? 1 : 0);
}
