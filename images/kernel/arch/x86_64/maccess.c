// SPDX-License-Identifier: GPL-2.0-only
/* Which addresses fault-safe reads refuse at once. Mirrors arch/x86/mm/maccess.c. */
#include <linux/syscalls.h>
#include <asm/ptrace.h>

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
