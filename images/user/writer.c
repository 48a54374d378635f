// SPDX-License-Identifier: GPL-2.0-only
/* write(fd, text, length): how a shell's `echo null_read > /sys/kernel/debug/golden/trig` reaches the kernel. */
#include <syscall.h>

shared char text[64];
shared unsigned long length;
shared int fd = 1;
shared long result;

__attribute__((noreturn)) void _start(void)
{
	result = syscall3(__NR_write, fd, (long)text, (long)length);
	exit_group(result < 0 ? 1 : 0);
}
