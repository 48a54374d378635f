// SPDX-License-Identifier: GPL-2.0-only
/*
 * Translations go before the pages do. Mirrors mm/mmu_gather.c and ptep_clear_flush() of mm/pgtable-generic.c: what is
 * gathered is known outside, and freed there after the flush.
 */
#include <linux/sched.h>
#include <asm/tlbflush.h>

static __frame void tlb_flush_mmu(struct mm_struct *mm, unsigned long start, unsigned long end, bool freed_tables)
{
	flush_tlb_mm_range(mm, start, end, PAGE_SHIFT, freed_tables);
}

__used __frame void tlb_finish_mmu(struct mm_struct *mm, unsigned long start, unsigned long end, bool freed_tables)
{
	tlb_flush_mmu(mm, start, end, freed_tables);
}

__used __frame void flush_tlb_range(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	flush_tlb_mm_range(mm, start, end, PAGE_SHIFT, false);
}

/* The entry is another one already. */
__used __frame void ptep_clear_flush(struct mm_struct *mm, unsigned long address)
{
	flush_tlb_mm_range(mm, address, address + PAGE_SIZE, PAGE_SHIFT, false);
}

__used __frame void flush_tlb_mm(struct mm_struct *mm)
{
	flush_tlb_mm_range(mm, 0, TLB_FLUSH_ALL, 0, true);
}
