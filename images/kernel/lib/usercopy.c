// SPDX-License-Identifier: GPL-2.0-only
/* Copies to and from user space where they are not inline. Mirrors lib/usercopy.c. */
#include <linux/uaccess.h>

#ifdef __x86_64__
__frame unsigned long _copy_from_user(void *to, const void *from, unsigned long n)
{
	return _inline_copy_from_user(to, from, n);
}

__frame unsigned long _copy_to_user(void *to, const void *from, unsigned long n)
{
	return _inline_copy_to_user(to, from, n);
}
#endif
