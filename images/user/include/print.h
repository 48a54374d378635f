/* SPDX-License-Identifier: GPL-2.0-only */
/* Reports of user programs: lines "name: value" on descriptor 1. A line is written by one system call. */
#ifndef _USER_PRINT_H
#define _USER_PRINT_H

#include <syscall.h>

static char line[256];
static unsigned int line_length;

static inline void put(char c)
{
	if (line_length < sizeof(line))
		line[line_length++] = c;
}

static inline void text(const char *s)
{
	while (*s)
		put(*s++);
}

static inline void number(long value)
{
	char digits[24];
	int n = 0;
	unsigned long rest = value < 0 ? -(unsigned long)value : (unsigned long)value;

	if (value < 0)
		put('-');
	do
		digits[n++] = (char)('0' + rest % 10);
	while (rest /= 10);
	while (n)
		put(digits[--n]);
}

static inline void flush(void)
{
	put('\n');
	syscall3(__NR_write, 1, (long)line, line_length);
	line_length = 0;
}

static inline void show(const char *name, long value)
{
	text(name);
	text(": ");
	number(value);
	flush();
}

#endif
