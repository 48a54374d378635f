// SPDX-License-Identifier: GPL-2.0-only
/* Files that are opened by their names: created, opened again, cut, opened until there are no descriptors left. */
#include <files.h>

#define AT_FDCWD (-100)
#define O_RDONLY 00
#define O_WRONLY 01
#define O_RDWR 02
#define O_CREAT 0100
#define O_EXCL 0200
#define O_TRUNC 01000
#define O_CLOEXEC 02000000

static char name[5000];
static unsigned char buf[100];
shared unsigned int directory;	/* ask for one */

static long open(const char *path, long flags)
{
	return syscall6(__NR_openat, AT_FDCWD, (long)path, flags, 0644, 0, 0);
}

static long close(long fd)
{
	return syscall3(__NR_close, fd, 0, 0);
}

static void names(void)
{
	note(open("absent", O_RDONLY));
	note(open("", O_RDONLY | O_CREAT));
	note(open((const char *)8, O_RDONLY));
	note(open(".", O_RDWR));
	for (unsigned long i = 0; i < sizeof(name) - 1; i++)
		name[i] = 'n';
	note(open(name, O_RDONLY));
	name[256] = 0;
	note(open(name, O_RDWR | O_CREAT));
	name[255] = 0;
	note(close(open(name, O_RDWR | O_CREAT)));
	note(syscall6(__NR_openat, 99, (long)"given", O_RDONLY, 0, 0, 0));
	note(syscall6(__NR_openat, 3, (long)"given", O_RDONLY, 0, 0, 0));
}

static void two_openers(void)
{
	long first = open("new", O_RDWR | O_CREAT | O_EXCL), second;
	volatile unsigned char *at;

	note(first);
	note(open("new", O_RDWR | O_CREAT | O_EXCL));
	second = open("new", O_RDONLY | O_CLOEXEC);
	note(second);
	note(syscall3(__NR_write, first, (long)"some text", 9));
	note(syscall3(__NR_write, second, (long)"more text", 9));
	note(syscall3(__NR_read, second, (long)buf, 4));
	note(syscall3(__NR_lseek, first, 0, 1) << 8 | syscall3(__NR_lseek, second, 0, 1));
	note(syscall3(__NR_read, first, (long)buf, 4));
	at = (volatile unsigned char *)map(second, PROT_READ, MAP_SHARED, 1, 0);
	note(sum(at, 12));
	note(close(open("new", O_WRONLY | O_TRUNC)));
	note(probe(at, 0));
	note(syscall3(__NR_lseek, first, 0, 2));
	note(pwrite(first, (void *)"again", 5, 3));
	note(sum(at, 12));
	note(close(first) | close(second));
	note(sum(at, 12));
	note(open("given", O_RDONLY | O_TRUNC));
	note(pread(3, buf, 10, 0));
	note(munmap(at, 1));
}

__attribute__((noreturn)) void _start(void)
{
	long opened = 0, last;

	note(syscall6(__NR_openat, AT_FDCWD, (long)"given", O_RDWR, 0, 0, 0));
	note(pread(3, buf, 100, 2));
	note(sum(buf, 100));
	names();
	two_openers();
	while ((last = open("new", O_RDONLY)) >= 0)
		opened++;
	note(opened);
	note(last);
	if (directory)
		open("given", 040000 | 0200000);
	done();
}
