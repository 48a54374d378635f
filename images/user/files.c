// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files in memory: reading, writing, holes, mappings of every kind, truncation under them, processes and threads that
 * share them.
 */
#include <files.h>

static unsigned char buf[2 * PAGE] __attribute__((aligned(4096)));
static unsigned char stack[4096] __attribute__((aligned(16)));
shared unsigned int thread_done;
shared long thread_fd;
shared unsigned int beyond;	/* 1: read behind the end at last; 2: write; 3: ask for huge pages */
shared unsigned long beyond_at;

static long memfd(const char *name, long flags)
{
	return syscall3(__NR_memfd_create, (long)name, flags, 0);
}

static void fill(volatile unsigned char *at, unsigned long length, unsigned int seed)
{
	for (unsigned long i = 0; i < length; i++)
		at[i] = (unsigned char)(seed + i * 7);
}

static void errors(long fd)
{
	static char name[300];

	note(memfd("x", 0x20));
	note(memfd("x", 0x18));
	note(memfd((const char *)8, 0));
	for (unsigned long i = 0; i < sizeof(name) - 1; i++)
		name[i] = 'n';
	note(memfd(name, 0));
	name[250] = 0;
	note(memfd(name, 0));
	name[249] = 0;
	note(syscall3(__NR_close, memfd(name, 0x11), 0, 0));
	note(syscall3(__NR_read, 99, (long)buf, 1));
	note(syscall3(__NR_write, 99, (long)buf, 1));
	note(pread(99, buf, 1, 0));
	note(pwrite(99, buf, 1, 0));
	note(pread(fd, buf, 1, -1));
	note(pwrite(99, buf, 1, -1));
	note(syscall3(__NR_lseek, 99, 0, 0));
	note(syscall3(__NR_close, 99, 0, 0));
	note(syscall3(__NR_ftruncate, 99, 0, 0));
	note(syscall3(__NR_ftruncate, 99, -1, 0));
	note(syscall3(__NR_ftruncate, fd, -1, 0));
	note(syscall3(__NR_read, fd, (long)buf, -1));
	note(syscall3(__NR_read, fd, -4096, 1));
	note(syscall3(__NR_write, fd, -4096, 1));
	note(pwrite(fd, buf, 2, 0x7fffffffffffffff));
	note(pwrite(fd, buf, 0, 0x7fffffffffffffff));
	note(error(map(99, RW, MAP_SHARED, 1, 0)));
	note(error(map(fd, RW, 0, 1, 0)));
	note(error(map(fd, RW, 4, 1, 0)));
	note(error(map(fd, RW, MAP_SHARED, 0, 0)));
	note(error(syscall6(__NR_mmap, 0, PAGE, RW, MAP_SHARED, fd, 100)));
	note(error(map(fd, RW, MAP_SHARED, 1, 1UL << 51)));
	note(error(map(fd, RW, MAP_SHARED, 1, (1UL << 51) - 1)));
	note(error(map(fd, RW, MAP_SHARED | 0x100, 1, 0)));
	note(error(map(fd, RW, MAP_SHARED_VALIDATE | 0x80000, 1, 0)));
	note(error(map(-1, RW, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, 1, 0)));
	note(error(map(-1, RW, MAP_SHARED | MAP_ANONYMOUS | 0x100, 1, 0)));
}

static void positions(long fd)
{
	note(syscall3(__NR_read, fd, (long)buf, 10));
	fill(buf, 100, 1);
	note(syscall3(__NR_write, fd, (long)buf, 100));
	note(syscall3(__NR_lseek, fd, 0, 1));
	note(syscall3(__NR_lseek, fd, -30, 2));
	note(syscall3(__NR_read, fd, (long)buf, 100));
	note(sum(buf, 30));
	note(syscall3(__NR_read, fd, (long)buf, 100));
	note(syscall3(__NR_lseek, fd, -101, 2));
	note(syscall3(__NR_lseek, fd, 0, 5));
	note(syscall3(__NR_lseek, fd, 5 * PAGE + 50, 0));
	fill(buf, 2 * PAGE, 9);
	note(syscall3(__NR_write, fd, (long)buf, PAGE));
	note(syscall3(__NR_lseek, fd, 0, 2));
	for (long at = 0; at <= (long)(7 * PAGE); at += PAGE - 1) {
		note(syscall3(__NR_lseek, fd, at, 3));
		note(syscall3(__NR_lseek, fd, at, 4));
	}
	note(syscall3(__NR_lseek, fd, -1, 3));
	note(pread(fd, buf, 2 * PAGE, 50));
	note(sum(buf, 2 * PAGE));
	note(pwrite(fd, buf, 60, 3 * PAGE - 20));
	note(pread(fd, buf, 2 * PAGE, 2 * PAGE));
	note(sum(buf, 2 * PAGE));
	note(syscall3(__NR_lseek, fd, 0, 1));
}

/* Buffers that are not there, not there yet, or the file itself. */
static void buffers(long fd)
{
	volatile unsigned char *fresh = (volatile unsigned char *)map(-1, RW, MAP_PRIVATE | MAP_ANONYMOUS, 3, 0);
	volatile unsigned char *self = (volatile unsigned char *)map(fd, RW, MAP_SHARED, 4, 0);

	fresh[2 * PAGE - 1] = 1;
	note(munmap(fresh + 2 * PAGE, 1));
	note(pwrite(fd, fresh, 2 * PAGE, 0));
	note(pwrite(fd, fresh + PAGE, 2 * PAGE, 100));
	note(pwrite(fd, fresh + 2 * PAGE - 100, 200, 0));
	note(pwrite(fd, fresh + 2 * PAGE, 10, 0));
	note(pread(fd, fresh + 2 * PAGE - 100, 200, 0));
	note(pread(fd, fresh + 2 * PAGE, 200, 0));
	note(munmap(fresh, 2));
	fill(self, 4 * PAGE, 3);
	note(pwrite(fd, self, 2 * PAGE, PAGE + 10));
	note(sum(self, 4 * PAGE));
	note(pread(fd, self + PAGE, PAGE, 2 * PAGE + 5));
	note(sum(self, 4 * PAGE));
	note(syscall3(__NR_mprotect, (long)self, PAGE, PROT_READ));
	note(pread(fd, self, 10, 0));
	note(pwrite(fd, self, 10, 2 * PAGE));
	note(munmap(self, 4));
}

static void mappings(long fd)
{
	volatile unsigned char *shared_map, *again, *private;

	note(syscall3(__NR_ftruncate, fd, 2 * PAGE + 100, 0));
	shared_map = (volatile unsigned char *)map(fd, RW, MAP_SHARED, 5, 0);
	again = (volatile unsigned char *)map(fd, PROT_READ, MAP_SHARED, 2, 1);
	private = (volatile unsigned char *)map(fd, RW, MAP_PRIVATE, 5, 0);
	fill(shared_map, 2 * PAGE + 100, 5);
	note(sum(again, 2 * PAGE));
	note(sum(private, PAGE));
	private[PAGE] = 0xaa;
	buf[0] = 0xbb;
	note(pwrite(fd, buf, 1, 1));
	note(pwrite(fd, buf, 1, PAGE + 1));
	note(private[1]);
	note(private[PAGE + 1]);
	note(again[1]);
	note(pread(fd, buf, 2, PAGE));
	note(buf[0] << 8 | buf[1]);
	/* the tail of the last page: zero, writable, and not in the file */
	note(shared_map[2 * PAGE + 100] | private[2 * PAGE + 4000]);
	shared_map[2 * PAGE + 200] = 0xcc;
	note(private[2 * PAGE + 200]);
	note(pread(fd, buf, 200, 2 * PAGE));
	note(syscall3(__NR_ftruncate, fd, 2 * PAGE + 300, 0));
	note(pread(fd, buf, 300, 2 * PAGE));
	note(sum(buf, 300));
	note(probe(shared_map + 3 * PAGE - 1, 0));
	note(probe(shared_map + 3 * PAGE, 0));
	note(probe(shared_map + 3 * PAGE, 1));
	note(probe(private + 4 * PAGE + 8, 0));
	note(probe(private + 4 * PAGE + 8, 1));
	note(probe(again, 1));
	/* shrink: copies of what is behind the end go too */
	private[2 * PAGE] = 0x11;
	private[0] = 0x12;
	note(syscall3(__NR_ftruncate, fd, PAGE + 7, 0));
	note(probe(shared_map + 2 * PAGE, 0));
	note(probe(private + 2 * PAGE, 1));
	note(probe(again + PAGE, 0));
	note(private[0]);
	note(private[PAGE]);
	note(sum(shared_map + PAGE, PAGE));
	note(pread(fd, buf, 10, PAGE + 7));
	/* grow: what is new is zero, for everybody */
	note(syscall3(__NR_ftruncate, fd, 4 * PAGE, 0));
	note(sum(shared_map, 4 * PAGE));
	note(sum(again, 2 * PAGE));
	note(sum(private, 4 * PAGE));
	note(probe(shared_map + 4 * PAGE, 0));
	/* private copies can be dropped, the file stays */
	note(syscall3(__NR_madvise, (long)private, 2 * PAGE, MADV_DONTNEED));
	note(private[0] << 8 | private[PAGE]);
	note(syscall3(__NR_madvise, (long)shared_map, 4 * PAGE, MADV_DONTNEED));
	note(sum(shared_map, 2 * PAGE));
	/* less access, a hole, more access */
	note(syscall3(__NR_mprotect, (long)shared_map + PAGE, PAGE, PROT_READ));
	note(probe(shared_map + PAGE, 1));
	note(syscall3(__NR_mprotect, (long)again, PAGE, RW));
	again[3] = 0x44;
	note(shared_map[PAGE + 3]);
	note(munmap(shared_map + 2 * PAGE, 1));
	note(probe(shared_map + 2 * PAGE, 0));
	note(syscall3(__NR_mprotect, (long)shared_map, 2 * PAGE, RW));
	shared_map[PAGE + 4] = 0x45;
	note(error(syscall6(__NR_mmap, (long)shared_map + 2 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 3 * PAGE)));
	shared_map[2 * PAGE] = 0x46;
	note(shared_map[3 * PAGE] << 8 | again[4]);
	note(munmap(again, 2));
	note(munmap(shared_map, 5));
	note(munmap(private, 5));
}

/* fork() under a private mapping: what was written is copied, what was not is found again, by both */
static void copies(long fd)
{
	volatile unsigned char *p = (volatile unsigned char *)map(fd, RW, MAP_PRIVATE, 4, 0);
	volatile unsigned char *none = (volatile unsigned char *)map(fd, PROT_NONE, MAP_SHARED, 1, 0);

	note(p[0] + p[PAGE]);
	p[PAGE] = 0x31;
	buf[0] = 0x32;
	note(probe(p + PAGE, 0));
	note(probe(p + PAGE, 1));
	note(probe(p, 1));
	note(p[PAGE]);
	note(pwrite(fd, buf, 1, 0));
	note(p[0]);
	note(probe(p, 0));
	note(probe(none, 0));
	note(syscall3(__NR_mprotect, (long)none, PAGE, RW));
	none[2] = 0x33;
	note(p[2]);
	note(syscall3(__NR_mprotect, (long)none, PAGE, PROT_NONE));
	note(probe(none, 0));
	note(munmap(none, 1) | munmap(p, 4));
}

static void child(long fd, volatile unsigned char *s, volatile unsigned char *p, volatile unsigned char *a)
{
	long mine = memfd("mine", 0);

	a[0] = (unsigned char)(s[0] + p[0]);
	s[0] = 0x21;
	p[0] = 0x22;
	s[PAGE] = p[PAGE] = 0x23;
	a[1] = (unsigned char)(p[0] + p[PAGE] + mine);
	a[2] = (unsigned char)syscall3(__NR_lseek, fd, 5, 1);
	a[3] = (unsigned char)-syscall3(__NR_close, fd, 0, 0);
	a[4] = (unsigned char)-syscall3(__NR_read, fd, (long)buf, 1);
	exit_group(s[1]);
}

static void processes(long fd)
{
	volatile unsigned char *s = (volatile unsigned char *)map(fd, RW, MAP_SHARED, 2, 0);
	volatile unsigned char *p = (volatile unsigned char *)map(fd, RW, MAP_PRIVATE, 2, 0);
	volatile unsigned char *a = (volatile unsigned char *)map(-1, RW, MAP_SHARED | MAP_ANONYMOUS, 2, 0);
	long pid;

	s[0] = 1;
	p[0] = 2;
	note(syscall3(__NR_lseek, fd, 10, 0));
	pid = fork();
	if (!pid)
		child(fd, s, p, a);
	note(reap(pid));
	note(s[0] << 16 | p[0] << 8 | a[0]);
	note(s[PAGE] << 16 | p[PAGE] << 8 | a[1]);
	note(a[2] << 16 | a[3] << 8 | a[4]);
	note(syscall3(__NR_lseek, fd, 0, 1));
	note(memfd("next", 1));
	note(probe(a + 2 * PAGE - 1, 1));
	note(a[2 * PAGE - 1]);
	note(munmap(s, 2) | munmap(p, 2) | munmap(a, 2));
}

static void other_thread(void *arg)
{
	long fd = (long)arg;

	thread_fd = memfd("thread", 0);
	note(thread_fd);
	note(syscall3(__NR_ftruncate, thread_fd, PAGE, 0));
	note(syscall3(__NR_close, fd, 0, 0));
	thread_done = 1;
	futex_wake(&thread_done, 1);
	exit_thread(0);
}

/* One table of descriptors for all threads; a mapping outlives its descriptor. */
static void threads(long fd)
{
	volatile unsigned char *s = (volatile unsigned char *)map(fd, RW, MAP_SHARED, 1, 0), *t;

	s[7] = 0x55;
	thread_create(other_thread, (void *)fd, stack + sizeof(stack));
	while (!thread_done)
		futex_wait(&thread_done, 0);
	note(syscall3(__NR_lseek, fd, 0, 0));
	note(s[7]);
	t = (volatile unsigned char *)map(thread_fd, RW, MAP_SHARED, 2, 0);
	t[9] = s[7];
	note(pread(thread_fd, buf, 2 * PAGE, 9));
	note(buf[0]);
	note(munmap(s, 1));
	beyond_at = (unsigned long)t + PAGE + 123;
}

__attribute__((noreturn)) void _start(void)
{
	long fd = memfd("data", 0);

	note(fd);
	errors(fd);
	positions(fd);
	buffers(fd);
	mappings(fd);
	copies(fd);
	processes(fd);
	threads(fd);
	if (beyond == 1)
		note(*(volatile unsigned char *)beyond_at);
	else if (beyond == 3)
		note(memfd("huge", 4));
	else if (beyond)
		*(volatile unsigned char *)beyond_at = 1;
	done();
}
