// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process and its children. Each child finds what its parent had written before fork(), writes over it for itself
 * alone, makes a child of its own that does so too, and says whether it saw errors.
 */
#include <syscall.h>

#define PAGE 4096UL
#define CHILDREN 2

shared unsigned int errors;
shared long data[2];
shared int statuses[CHILDREN];
shared long children[CHILDREN];
shared unsigned int wait_for_all = 1;	/* 0: leave them to init */

static void expect(long got, long wanted)
{
	if (got != wanted)
		errors++;
}

static void grandchild(volatile long *mapped)
{
	expect(mapped[0], 200);
	mapped[0] = 300;
	expect(data[0], 2);
	data[0] = 3;
	expect(mapped[0] + data[0], 303);
	expect(wait4(-1, 0, 0), -10);
	exit_group(errors ? 1 : 33);
}

static void child(volatile long *mapped, long number)
{
	int status = 0;
	long pid;

	expect(mapped[0], 100);
	expect(mapped[PAGE / sizeof(long)], 0);
	expect(data[0], 1);
	mapped[0] = 200;
	mapped[PAGE / sizeof(long)] = number;
	data[0] = 2;
	pid = fork();
	if (!pid)
		grandchild(mapped);
	mapped[0] = 201;
	if (wait_for_all) {
		expect(wait4(pid, &status, 0), pid);
		expect(status, 33 << 8);
	}
	expect(mapped[0], 201);
	expect(mapped[PAGE / sizeof(long)], number);
	expect(data[0], 2);
	if (number && wait_for_all && !errors)
		*(volatile long *)8 = 0;	/* ends with SIGSEGV */
	exit_group(errors ? 1 : 20 + number);
}

__attribute__((noreturn)) void _start(void)
{
	volatile long *mapped;

	mapped = (volatile long *)syscall6(__NR_mmap, 0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
					   -1, 0);
	mapped[0] = 100;
	data[0] = 1;
	for (long i = 0; i < CHILDREN; i++) {
		children[i] = fork();
		if (!children[i])
			child(mapped, i);
	}
	mapped[0] = 101;
	data[0] = 11;
	expect(wait4(-1, 0, 4), -22);
	if (wait_for_all) {
		expect(wait4(children[1], (int *)&statuses[1], 0), children[1]);
		expect(wait4(-1, (int *)&statuses[0], 0), children[0]);
		expect(wait4(-1, 0, WNOHANG), -10);
	}
	expect(mapped[0], 101);
	expect(data[0], 11);
	exit_group(errors ? 1 : 0);
}
