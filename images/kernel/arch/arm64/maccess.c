// SPDX-License-Identifier: GPL-2.0-only
/* Which addresses fault-safe reads refuse at once. Mirrors the default filter of mm/maccess.c. */
#include <linux/syscalls.h>
#include <asm/ptrace.h>

/* no address is refused beforehand: the access itself decides */
bool copy_from_kernel_nofault_allowed(const void *unsafe_src, size_t size)
{
	(void)unsafe_src;
	(void)size;
	return true;
}
