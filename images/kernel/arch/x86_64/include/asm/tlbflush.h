/* SPDX-License-Identifier: GPL-2.0-only */
/* Translations that CPUs have cached. Mirrors asm/tlbflush.h. */
#ifndef _ASM_TLBFLUSH_H
#define _ASM_TLBFLUSH_H

#include <linux/mm_types.h>

#define TLB_FLUSH_ALL -1UL

/* arch/x86/mm/tlb.c: on every CPU that may have some of `mm` in [start, end); returns when they are gone */
void flush_tlb_mm_range(struct mm_struct *mm, unsigned long start, unsigned long end, unsigned int stride_shift,
			bool freed_tables);

#endif
