/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One page-table entry (descriptor of a page):
 *
 *   55    54   53   51   47 ............. 12  11  10   9..8  7       6     4..2     1     0
 *   DIRTY UXN  PXN  DBM  page frame           nG  AF   SH    RDONLY  USER  AttrIdx  PAGE  VALID
 *
 * Mirrors arch/arm64/include/asm/pgtable.h as far as kernel mappings of single pages need it.
 */
#ifndef _ASM_PGTABLE_H
#define _ASM_PGTABLE_H

#include <linux/pgtable.h>

#define PTE_VALID 0x1UL
#define PTE_ADDR_MASK 0x0000fffffffff000UL
#define PAGE_KERNEL 0x00e8000000000703UL
#define VMEMMAP_START 0xfffffdffc0000000UL
#define PAGE_OFFSET 0xffff000000000000UL
#define PHYS_OFFSET 0x40000000UL

/* the table that an entry above the last level points to */
static __always_inline u64 *pxd_table(u64 entry)
{
	return (u64 *)((entry & PTE_ADDR_MASK) - PHYS_OFFSET + PAGE_OFFSET);
}

/* an entry above the last level that maps a block */
static __always_inline bool pxd_leaf(u64 entry)
{
	return (entry & 3) == 1;
}

static __always_inline struct page *pte_page(pte_t pte)
{
	return (struct page *)VMEMMAP_START + (((pte.pte & PTE_ADDR_MASK) - PHYS_OFFSET) >> PAGE_SHIFT);
}

static __always_inline pte_t mk_pte_kernel(struct page *page)
{
	unsigned long index = (unsigned long)(page - (struct page *)VMEMMAP_START);
	pte_t pte = { ((index << PAGE_SHIFT) + PHYS_OFFSET) | PAGE_KERNEL };

	return pte;
}

static __always_inline bool pte_none(pte_t pte)
{
	return !pte.pte;
}

static __always_inline bool pte_present(pte_t pte)
{
	return pte.pte & PTE_VALID;
}

/* Linux kernel commit 258df8fce42f: install `new` only into an entry that is all zero; cas, then the table walker's
 * barriers (emit_pte_barriers()). */
static __always_inline bool ptep_try_set(pte_t *ptep, pte_t new)
{
	if (!__ptep_cmpxchg_none(ptep, new))
		return false;
	__asm__ __volatile__("dsb ishst\n\tisb" ::: "memory");
	return true;
}

/* Break before make: the old entry must be gone from every TLB before a new one is written. */
static __always_inline void flush_tlb_before_set(unsigned long addr)
{
	__asm__ __volatile__("dsb ishst\n\ttlbi vaale1is, %0\n\tdsb ish\n\tisb"
			     :: "r"(addr >> PAGE_SHIFT & 0xfffffffffffUL) : "memory");
}

#endif
