// SPDX-License-Identifier: GPL-2.0-only
/* Which addresses fault-safe reads refuse at once. Mirrors arch/x86/mm/maccess.c and include/asm/uaccess_64.h. */
#include <linux/syscalls.h>
#include <asm/ptrace.h>

unsigned long rep_movs_alternative(void *to, const void *from, unsigned long len);

bool copy_from_kernel_nofault_allowed(const void *unsafe_src, size_t size)
{
	long vaddr = (long)unsafe_src;

	(void)size;
	/* user space with one page behind it, the vsyscall page, then anything that is not canonical */
	if ((unsigned long)vaddr < TASK_SIZE_MAX + PAGE_SIZE)
		return false;
	if (((unsigned long)vaddr & PAGE_MASK) == 0xffffffffff600000UL)
		return false;
	return (vaddr << 16 >> 16) == vaddr;
}

static __always_inline bool access_ok(const void *p, unsigned long n)
{
	unsigned long start = (unsigned long)p;

	return start + n >= start && start + n <= TASK_SIZE_MAX;
}

unsigned long copy_from_user(void *to, const void *from, unsigned long n)
{
	unsigned long left = n;

	if (access_ok(from, n))
		left = rep_movs_alternative(to, from, n);
	if (left)
		memset((char *)to + (n - left), 0, left);
	return left;
}

unsigned long copy_to_user(void *to, const void *from, unsigned long n)
{
	return access_ok(to, n) ? rep_movs_alternative(to, from, n) : n;
}
