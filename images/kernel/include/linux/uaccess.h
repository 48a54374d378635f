/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copies to and from user space. Mirrors include/linux/uaccess.h: x86 has them out of line under names of their own
 * (lib/usercopy.c), arm64 inline (INLINE_COPY_FROM_USER).
 */
#ifndef _LINUX_UACCESS_H
#define _LINUX_UACCESS_H

#include <linux/lockdep.h>
#include <asm/ptrace.h>
#include <asm/uaccess.h>

/* where Linux 6.18 has its might_fault() */
#define COPY_FROM_USER_LINE 162
#define COPY_TO_USER_LINE 192
#define might_fault_at(line) \
	do { if (unlikely(kernel_features.prove_locking)) __might_fault("include/linux/uaccess.h", line); } while (0)

static __always_inline bool access_ok(const void *p, unsigned long n)
{
	unsigned long start = (unsigned long)p;

	return start + n >= start && start + n <= TASK_SIZE_MAX;
}

static __always_inline unsigned long _inline_copy_from_user(void *to, const void *from, unsigned long n)
{
	unsigned long left = n;

	might_fault_at(COPY_FROM_USER_LINE);
	if (access_ok(from, n))
		left = raw_copy_from_user(to, from, n);
	if (left)
		memset((char *)to + (n - left), 0, left);
	return left;
}

static __always_inline unsigned long _inline_copy_to_user(void *to, const void *from, unsigned long n)
{
	might_fault_at(COPY_TO_USER_LINE);
	return access_ok(to, n) ? raw_copy_to_user(to, from, n) : n;
}

#ifdef __x86_64__
unsigned long _copy_from_user(void *to, const void *from, unsigned long n);
unsigned long _copy_to_user(void *to, const void *from, unsigned long n);
#define copy_from_user(to, from, n) _copy_from_user(to, from, n)
#define copy_to_user(to, from, n) _copy_to_user(to, from, n)
#else
#define copy_from_user(to, from, n) _inline_copy_from_user(to, from, n)
#define copy_to_user(to, from, n) _inline_copy_to_user(to, from, n)
#endif

#endif
