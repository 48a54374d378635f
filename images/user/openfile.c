// SPDX-License-Identifier: GPL-2.0-only
/* What can be done with the file that somebody has opened as descriptor 3, in whatever way. */
#include <files.h>

#define FD 3

static unsigned char buf[PAGE];

static void look(volatile unsigned char *at, long size)
{
	note(sum(at, (unsigned long)size));
	note(probe(at + (size | (PAGE - 1)), 0));
	note(probe(at + (size | (PAGE - 1)) + 1, 0));
}

static void change(volatile unsigned char *at)
{
	at[0] = 'W';
	at[PAGE] = 'X';
	note(pread(FD, buf, 2, 0));
	note(buf[0]);
	note(probe(at, 1));
	note(at[0]);
}

__attribute__((noreturn)) void _start(void)
{
	static const int prots[] = { PROT_READ, PROT_WRITE, RW };
	long size = syscall3(__NR_lseek, FD, 0, 2), at;
	unsigned long pages = (unsigned long)size / PAGE + 3;

	note(size);
	note(syscall3(__NR_lseek, FD, 100, 0));
	note(syscall3(__NR_lseek, FD, 100, 3));
	note(syscall3(__NR_lseek, FD, 100, 4));
	note(syscall3(__NR_lseek, FD, size, 4));
	note(syscall3(__NR_lseek, FD, 50, 0));
	note(syscall3(__NR_read, FD, (long)buf, 200));
	note(sum(buf, 200));
	note(pread(FD, buf, PAGE, size - 10));
	note(syscall3(__NR_lseek, FD, 0, 1));
	/* the kernel itself faults on it, while it holds another file */
	at = map(FD, PROT_READ, MAP_PRIVATE, pages, 0);
	if (!error(at)) {
		long copy = syscall3(__NR_memfd_create, (long)"copy", 0, 0);

		note(pwrite(copy, (volatile unsigned char *)at + 5, pages * PAGE, 0));
		note(pread(copy, buf, PAGE, PAGE));
		note(sum(buf, PAGE));
		note(syscall3(__NR_close, copy, 0, 0) | munmap((volatile unsigned char *)at, pages));
	}
	for (unsigned int i = 0; i < sizeof(prots) / sizeof(prots[0]); i++) {
		at = map(FD, prots[i], MAP_PRIVATE, pages, 0);
		note(error(at));
		if (!error(at)) {
			look((volatile unsigned char *)at, size);
			if (prots[i] & PROT_WRITE)
				change((volatile unsigned char *)at);
			note(syscall3(__NR_mprotect, at, PAGE, RW));
			note(munmap((volatile unsigned char *)at, pages));
		}
		at = map(FD, prots[i], MAP_SHARED, pages, 0);
		note(error(at));
		if (!error(at)) {
			look((volatile unsigned char *)at, size);
			if (prots[i] & PROT_WRITE)
				change((volatile unsigned char *)at);
			note(syscall3(__NR_mprotect, at, PAGE, RW));
			note(munmap((volatile unsigned char *)at, pages));
		}
	}
	note(pwrite(FD, (void *)"written", 7, size - 3));
	note(syscall3(__NR_write, FD, (long)"at 50", 5));
	note(syscall3(__NR_lseek, FD, 0, 2));
	note(syscall3(__NR_ftruncate, FD, size - 1000, 0));
	note(syscall3(__NR_ftruncate, FD, size + 500, 0));
	note(pread(FD, buf, 2000, size - 1500));
	note(sum(buf, 2000));
	note(syscall3(__NR_close, FD, 0, 0));
	note(syscall3(__NR_close, FD, 0, 0));
	done();
}
