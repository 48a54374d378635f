// SPDX-License-Identifier: GPL-2.0-only
/* Touches one address as user code does: a load, a store or a jump. A SIGSEGV is the caller's to see. */
#include <syscall.h>

enum { OP_READ, OP_WRITE, OP_EXEC };

shared unsigned long address;
shared unsigned long value;
shared int operation;
shared int done;

__attribute__((noreturn)) void _start(void)
{
	volatile unsigned long *p = (volatile unsigned long *)address;

	if (operation == OP_READ)
		value = *p;
	else if (operation == OP_WRITE)
		*p = value;
	else
		((void (*)(void))address)();
	done = 1;
	exit_group(0);
}
