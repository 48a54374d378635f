// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two threads of one process. One grows, shrinks and moves mappings and the heap and gives advice about them, the other
 * writes to memory in between, drops it, and reads back what it wrote. What is not mapped is asked for with
 * MADV_POPULATE_READ, which says so (-ENOMEM) instead of ending the program.
 */
#include <syscall.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(long))
#define NPAGES 4
#define ENOMEM (-12)
#define EFAULT (-14)
#define EINVAL (-22)

static unsigned char stacks[2][4096] __attribute__((aligned(16)));
shared unsigned int rounds = 2;
shared unsigned int finished;
shared unsigned int errors;
shared unsigned int failed_line;
shared long common;

static long map(unsigned long length, long flags)
{
	return syscall6(__NR_mmap, 0, (long)length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

static long mremap(long old, unsigned long old_len, unsigned long new_len, long flags, long to)
{
	return syscall6(__NR_mremap, old, (long)old_len, (long)new_len, flags, to, 0);
}

static long madvise(long at, unsigned long length, long advice)
{
	return syscall3(__NR_madvise, at, (long)length, advice);
}

static long brk(long end)
{
	return syscall3(__NR_brk, end, 0, 0);
}

#define expect(got, wanted) check(got, wanted, __LINE__)

static void check(long got, long wanted, unsigned int line)
{
	if (got == wanted)
		return;
	__atomic_fetch_add(&errors, 1, __ATOMIC_SEQ_CST);
	if (!failed_line)
		failed_line = line;
}

static void done(void)
{
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	futex_wake(&finished, 1);
	exit_thread(0);
}

static void fill(long at, long pages, long value)
{
	for (long i = 0; i < pages; i++)
		((volatile long *)at)[i * WORDS] = value + i;
}

static void holds(long at, long pages, long value, unsigned int line)
{
	for (long i = 0; i < pages; i++)
		check(((volatile long *)at)[i * WORDS], value + i, line);
}

/* which of four pages are there, as bits */
static long resident(long at)
{
	unsigned char vec[4] = { 9, 9, 9, 9 };

	expect(syscall3(__NR_mincore, at, 4 * PAGE - 1, (long)vec), 0);
	return vec[0] | vec[1] << 1 | vec[2] << 2 | vec[3] << 3;
}

static void move(long value)
{
	long other = map(8 * PAGE, 0), own = map(3 * PAGE, 0), end;

	fill(own, 3, value);
	end = mremap(own, 3 * PAGE, 6 * PAGE, MREMAP_MAYMOVE, 0);
	holds(end, 3, value, __LINE__);
	expect(((volatile long *)end)[5 * WORDS], 0);
	if (end != own)
		expect(madvise(own, PAGE, MADV_POPULATE_READ), ENOMEM);
	expect(mremap(end, 6 * PAGE, 2 * PAGE, 0, 0), end);
	expect(madvise(end, 3 * PAGE, MADV_POPULATE_READ), ENOMEM);
	expect(mremap(end, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other + 5 * PAGE), other + 5 * PAGE);
	expect(madvise(end, PAGE, MADV_POPULATE_READ), ENOMEM);
	holds(other + 5 * PAGE, 2, value, __LINE__);
	expect(mremap(other + 5 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, other), other);
	expect(*(volatile long *)other, value);
	expect(*(volatile long *)(other + 5 * PAGE), 0);
	expect(mremap(other, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other + PAGE), EINVAL);
	expect(mremap(end, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), EFAULT);
	expect(mremap(end, 2 * PAGE, PAGE, 0, 0), EFAULT);
	expect(mremap(other, PAGE, 2 * PAGE, 0, 0), ENOMEM);
	expect(syscall3(__NR_munmap, other, 8 * PAGE, 0), 0);
}

static void heap(long value)
{
	long end = brk(0);

	expect(brk(end + 3 * PAGE - 1), end + 3 * PAGE - 1);
	fill(end, 3, value);
	expect(brk(end + PAGE), end + PAGE);
	holds(end, 1, value, __LINE__);
	expect(madvise(end, 2 * PAGE, MADV_POPULATE_READ), ENOMEM);
	expect(brk(end + 2 * PAGE), end + 2 * PAGE);
	expect(((volatile long *)end)[WORDS], 0);
	expect(brk(1), end + 2 * PAGE);
	expect(brk(-1), end + 2 * PAGE);
	expect(brk(end), end);
	expect(madvise(end, PAGE, MADV_POPULATE_READ), ENOMEM);
}

static void advise(long value)
{
	long own = map(4 * PAGE, MAP_POPULATE), pid;
	int status = 0;

	expect(resident(own), 15);
	expect(madvise(own + PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	expect(resident(own), 9);
	expect(madvise(own, 2 * PAGE, MADV_POPULATE_WRITE), 0);
	expect(resident(own), 11);
	expect(syscall3(__NR_mincore, own + 1, PAGE, own), EINVAL);
	expect(syscall3(__NR_mincore, own, PAGE, 8), EFAULT);
	expect(syscall3(__NR_mincore, 4096, PAGE, own), ENOMEM);
	expect(syscall3(__NR_mincore, own, -4096, own), ENOMEM);
	fill(own, 4, value);
	expect(madvise(own, 4 * PAGE, MADV_FREE), 0);
	holds(own, 4, value, __LINE__);
	expect(madvise(own + PAGE, PAGE, MADV_WIPEONFORK), 0);
	expect(madvise(own + 2 * PAGE, PAGE, MADV_DONTFORK), 0);
	expect(madvise(own, 3 * PAGE, MADV_RANDOM), 0);
	expect(madvise(own, PAGE, 7), EINVAL);
	expect(madvise(own + 1, PAGE, MADV_RANDOM), EINVAL);
	expect(syscall3(__NR_mprotect, own + 3 * PAGE, PAGE, PROT_READ), 0);
	expect(madvise(own, 4 * PAGE, MADV_POPULATE_WRITE), EINVAL);
	pid = fork();
	if (!pid) {
		errors = 0;
		holds(own, 1, value, __LINE__);
		holds(own + PAGE, 1, 0, __LINE__);
		expect(madvise(own + 2 * PAGE, PAGE, MADV_POPULATE_READ), ENOMEM);
		holds(own + 3 * PAGE, 1, value + 3, __LINE__);
		exit_group(errors ? 1 : 42);
	}
	expect(wait4(pid, &status, 0), pid);
	expect(status, 42 << 8);
	holds(own, 4, value, __LINE__);
	expect(syscall3(__NR_munmap, own, 4 * PAGE, 0), 0);
}

static void mover(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < rounds; i++) {
		move(100 * i + 1);
		heap(100 * i + 2);
		advise(100 * i + 3);
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
		expect(madvise(common, PAGE, MADV_FREE), 0);
		expect(*(volatile long *)common, i);
		expect(madvise(common, NPAGES * PAGE, MADV_DONTNEED), 0);
	}
	done();
}

__attribute__((noreturn)) void _start(void)
{
	unsigned int seen;

	common = map(NPAGES * PAGE, 0);
	thread_create(mover, 0, stacks[0] + sizeof(stacks[0]));
	thread_create(writer, 0, stacks[1] + sizeof(stacks[1]));
	while ((seen = finished) != 2)
		futex_wait(&finished, seen);
	expect(syscall3(__NR_munmap, common, NPAGES * PAGE, 0), 0);
	exit_group(errors ? 1 : 0);
}
