// SPDX-License-Identifier: GPL-2.0-only
/* Strings, and what the compiler may call on its own. Mirrors lib/string.c. */
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

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; a++, b++, n--)
		if (*a != *b || !*a)
			return (unsigned char)*a - (unsigned char)*b;
	return 0;
}

noinline int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, (size_t)-1);
}
