// SPDX-License-Identifier: GPL-2.0-only
/* What the compiler may call on its own. */
#include <linux/types.h>

void *memcpy(void *to, const void *from, size_t n)
{
	char *t = to;
	const char *f = from;

	while (n--) {
		*t++ = *f++;
		barrier();
	}
	return to;
}

void *memset(void *s, int c, size_t n)
{
	char *t = s;

	while (n--) {
		*t++ = (char)c;
		barrier();
	}
	return s;
}
