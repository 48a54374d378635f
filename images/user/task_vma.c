// SPDX-License-Identifier: GPL-2.0-only
/*
 * Three threads of one process around mmap_lock. dl_runner runs a BPF program that walks the process's VMAs and copies
 * from a page that is not present, dl_mapper maps and unmaps memory, and the first thread touches fresh memory, which
 * needs no mmap_lock, until it maps some itself.
 */
#include <syscall.h>

#define BPF_PROG_TEST_RUN 10
#define PAGE 4096UL
#define NPAGES 16

static unsigned char stacks[2][4096] __attribute__((aligned(16)));
static unsigned char target[2 * PAGE] __attribute__((aligned(4096)));

shared unsigned char attr[128] __attribute__((aligned(8)));
shared unsigned int attr_size = 80;
shared unsigned int runs = 1, pairs = 1, touches = 3;
shared long result;		/* of the last bpf(2) */
shared unsigned int ran, mapped, touched;
shared unsigned int finished;
shared unsigned long target_page;

static long map(unsigned long length)
{
	return syscall6(__NR_mmap, 0, (long)length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void done(void)
{
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
	futex_wake(&finished, 1);
	exit_thread(0);
}

static void runner(void *arg)
{
	(void)arg;
	set_name("dl_runner");
	for (unsigned int i = 0; i < runs; i++) {
		syscall3(__NR_madvise, (long)target_page, PAGE, MADV_DONTNEED);
		result = syscall3(__NR_bpf, BPF_PROG_TEST_RUN, (long)attr, attr_size);
		ran++;
	}
	done();
}

static void mapper(void *arg)
{
	(void)arg;
	set_name("dl_mapper");
	for (unsigned int i = 0; i < pairs; i++) {
		long at = map(2 * PAGE);

		if (at > 0)
			syscall3(__NR_munmap, at, 2 * PAGE, 0);
		mapped++;
	}
	done();
}

__attribute__((noreturn)) void _start(void)
{
	volatile unsigned char *fresh = (unsigned char *)map(NPAGES * PAGE);
	unsigned int seen;

	fresh[0] = 1;	/* from here on the VMA has an anon_vma: its faults need no mmap_lock */
	target_page = (unsigned long)target + (-(unsigned long)target & (PAGE - 1));
	thread_create(runner, 0, stacks[0] + sizeof(stacks[0]));
	thread_create(mapper, 0, stacks[1] + sizeof(stacks[1]));
	for (unsigned int i = 1; i <= touches && i < NPAGES; i++) {
		fresh[i * PAGE] = 1;
		touched++;
	}
	map(PAGE);
	while ((seen = finished) != 2)
		futex_wait(&finished, seen);
	exit_group(0);
}
