/* SPDX-License-Identifier: GPL-2.0-only */
/* Translations that CPUs have cached. Mirrors asm/tlbflush.h: one instruction tells all CPUs, no interrupt is needed. */
#ifndef _ASM_TLBFLUSH_H
#define _ASM_TLBFLUSH_H

#include <linux/mm_types.h>

#define TLB_FLUSH_ALL -1UL

/* kcall: TLBI ...IS for [start, end), DSB ISH */
void tlbi_broadcast(unsigned long start, unsigned long end);

static __always_inline void flush_tlb_mm_range(struct mm_struct *mm, unsigned long start, unsigned long end,
					       unsigned int stride_shift, bool freed_tables)
{
	(void)mm, (void)stride_shift, (void)freed_tables;
	tlbi_broadcast(start, end);
}

#endif
