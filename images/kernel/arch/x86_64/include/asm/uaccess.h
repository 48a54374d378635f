/* SPDX-License-Identifier: GPL-2.0-only */
/* The copies of uaccess.S: result is the number of bytes not copied. Mirrors arch/x86/include/asm/uaccess_64.h. */
#ifndef _ASM_UACCESS_H
#define _ASM_UACCESS_H

unsigned long rep_movs_alternative(void *to, const void *from, unsigned long len);

static __always_inline unsigned long raw_copy_from_user(void *to, const void *from, unsigned long n)
{
	return rep_movs_alternative(to, from, n);
}

static __always_inline unsigned long raw_copy_to_user(void *to, const void *from, unsigned long n)
{
	return rep_movs_alternative(to, from, n);
}

#endif
