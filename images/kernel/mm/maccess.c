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

/* The bytes copied with the NUL, which is always there; -EFAULT and an empty string, -ERANGE. */
long strncpy_from_kernel_nofault(char *dst, const void *unsafe_addr, long count)
{
	const char *src = unsafe_addr;
	long i = 0;

	if (count <= 0)
		return 0;
	if (!copy_from_kernel_nofault_allowed(unsafe_addr, count))
		return -ERANGE;
	current->pagefault_disabled++;
	do {
		if (__get_kernel_nofault_1(dst + i, src + i)) {
			current->pagefault_disabled--;
			dst[i] = '\0';
			return -EFAULT;
		}
		i++;
	} while (dst[i - 1] && i < count);
	current->pagefault_disabled--;
	dst[i - 1] = '\0';
	return i;
}

long copy_from_user_nofault(void *dst, const void *src, size_t size)
{
	unsigned long left;

	if (!access_ok(src, size))
		return -EFAULT;
	current->pagefault_disabled++;
	left = raw_copy_from_user(dst, src, size);
	current->pagefault_disabled--;
	return left ? -EFAULT : 0;
}

/* As strncpy_from_kernel_nofault(). */
long strncpy_from_user_nofault(char *dst, const void *unsafe_addr, long count)
{
	long ret;

	if (count <= 0)
		return 0;
	current->pagefault_disabled++;
	ret = strncpy_from_user(dst, unsafe_addr, count);
	current->pagefault_disabled--;
	if (ret >= count) {
		ret = count;
		dst[ret - 1] = '\0';
	} else if (ret >= 0) {
		ret++;
	}
	return ret;
}

long copy_to_kernel_nofault(void *dst, const void *src, size_t size)
{
	return copy_loop(dst, src, size, __put_kernel_nofault_8, __put_kernel_nofault_1);
}
