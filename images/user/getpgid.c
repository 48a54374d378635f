// SPDX-License-Identifier: GPL-2.0-only
/* One system call: getpgid(0), as often as it is told. */
#include <syscall.h>

shared unsigned int calls = 1;
shared long result;	/* of the last one */

__attribute__((noreturn)) void _start(void)
{
	for (unsigned int i = 0; i < calls; i++)
		result = syscall3(__NR_getpgid, 0, 0, 0);
	exit_group(0);
}
