/* SPDX-License-Identifier: GPL-2.0-only */
/* The copies of uaccess.S: result is the number of bytes not copied. Mirrors arch/arm64/include/asm/uaccess.h. */
#ifndef _ASM_UACCESS_H
#define _ASM_UACCESS_H

unsigned long __arch_copy_from_user(void *to, const void *from, unsigned long n);
unsigned long __arch_copy_to_user(void *to, const void *from, unsigned long n);

static __always_inline unsigned long raw_copy_from_user(void *to, const void *from, unsigned long n)
{
	return __arch_copy_from_user(to, from, n);
}

static __always_inline unsigned long raw_copy_to_user(void *to, const void *from, unsigned long n)
{
	return __arch_copy_to_user(to, from, n);
}

#endif
