// SPDX-License-Identifier: GPL-2.0-only
/* Fault-safe access to kernel memory. Mirrors mm/maccess.c. */
#include <linux/syscalls.h>

long __get_kernel_nofault_8(void *dst, const void *src);
long __get_kernel_nofault_1(void *dst, const void *src);
long __put_kernel_nofault_8(void *dst, const void *src);
long __put_kernel_nofault_1(void *dst, const void *src);

static __always_inline long copy_loop(void *dst, const void *src, size_t size, long (*eight)(void *, const void *),
				      long (*one)(void *, const void *))
{
	long err = 0;

	current->pagefault_disabled++;
	while (!err && size >= 8) {
		err = eight(dst, src);
		dst = (char *)dst + 8;
		src = (const char *)src + 8;
		size -= 8;
	}
	while (!err && size) {
		err = one(dst, src);
		dst = (char *)dst + 1;
		src = (const char *)src + 1;
		size--;
	}
	current->pagefault_disabled--;
	return err;
}

long copy_from_kernel_nofault(void *dst, const void *src, size_t size)
{
	if (!copy_from_kernel_nofault_allowed(src, size))
		return -ERANGE;
	return copy_loop(dst, src, size, __get_kernel_nofault_8, __get_kernel_nofault_1);
}

long copy_to_kernel_nofault(void *dst, const void *src, size_t size)
{
	return copy_loop(dst, src, size, __put_kernel_nofault_8, __put_kernel_nofault_1);
}
