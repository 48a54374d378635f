// SPDX-License-Identifier: GPL-2.0-only
/* Strings from user space. Mirrors lib/strncpy_from_user.c; it reads byte by byte, Linux word by word. */
#include <linux/syscalls.h>

/* The length without its NUL, or `count` where none was met; -EFAULT. */
noinline long strncpy_from_user(char *dst, const char *src, long count)
{
	for (long i = 0; i < count; i++) {
		char c;

		if (copy_from_user(&c, src + i, 1))
			return -EFAULT;
		dst[i] = c;
		if (!c)
			return i;
	}
	return count;
}
