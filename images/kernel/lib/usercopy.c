// SPDX-License-Identifier: GPL-2.0-only
/* Copies to and from user space. Mirrors include/linux/uaccess.h and lib/usercopy.c. */
#include <linux/syscalls.h>
#include <asm/ptrace.h>
#include <asm/uaccess.h>

static __always_inline bool access_ok(const void *p, unsigned long n)
{
	unsigned long start = (unsigned long)p;

	return start + n >= start && start + n <= TASK_SIZE_MAX;
}

unsigned long copy_from_user(void *to, const void *from, unsigned long n)
{
	unsigned long left = n;

	if (access_ok(from, n))
		left = raw_copy_from_user(to, from, n);
	if (left)
		memset((char *)to + (n - left), 0, left);
	return left;
}

unsigned long copy_to_user(void *to, const void *from, unsigned long n)
{
	return access_ok(to, n) ? raw_copy_to_user(to, from, n) : n;
}
