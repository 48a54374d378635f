/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One page-table entry:
 *
 *   63  62..52  51 ............ 12  11..9  8   7    6   5   4    3    2   1   0
 *   NX  ignored    page frame       avail  G  PAT  D   A   PCD  PWT  U   RW  P
 *
 * Mirrors arch/x86/include/asm/pgtable.h as far as kernel mappings of single pages need it.
 */
#ifndef _ASM_PGTABLE_H
#define _ASM_PGTABLE_H

#include <linux/pgtable.h>

#define PTE_PFN_MASK 0x000ffffffffff000UL
#define _PAGE_PRESENT 0x1UL
#define _PAGE_ACCESSED 0x20UL
#define _PAGE_DIRTY 0x40UL
#define _PAGE_PSE 0x80UL
#define PAGE_OFFSET 0xffff888000000000UL
#define _PAGE_KNL_ERRATUM_MASK (_PAGE_ACCESSED | _PAGE_DIRTY)
#define PAGE_KERNEL 0x8000000000000163UL
#define VMEMMAP_START 0xffffea0000000000UL

/* the table that an entry above the last level points to */
static __always_inline u64 *pxd_table(u64 entry)
{
	return (u64 *)((entry & PTE_PFN_MASK) + PAGE_OFFSET);
}

/* an entry above the last level that maps a block */
static __always_inline bool pxd_leaf(u64 entry)
{
	return (entry & (_PAGE_PRESENT | _PAGE_PSE)) == (_PAGE_PRESENT | _PAGE_PSE);
}

static __always_inline struct page *pte_page(pte_t pte)
{
	return (struct page *)VMEMMAP_START + ((pte.pte & PTE_PFN_MASK) >> PAGE_SHIFT);
}

static __always_inline pte_t mk_pte_kernel(struct page *page)
{
	pte_t pte = { (((unsigned long)(page - (struct page *)VMEMMAP_START)) << PAGE_SHIFT) | PAGE_KERNEL };

	return pte;
}

static __always_inline bool pte_none(pte_t pte)
{
	return !(pte.pte & ~_PAGE_KNL_ERRATUM_MASK);
}

static __always_inline bool pte_present(pte_t pte)
{
	return pte.pte & _PAGE_PRESENT;
}

/* Linux kernel commit 258df8fce42f: install `new` only into an entry that is all zero. */
static __always_inline bool ptep_try_set(pte_t *ptep, pte_t new)
{
	return __ptep_cmpxchg_none(ptep, new);
}

/*
 * Nothing, as in Linux: only arm64 forbids to go from one valid entry to another. A CPU that has used the old page
 * may go on using it by its TLB until the translation is dropped for another reason.
 */
static __always_inline void flush_tlb_before_set(unsigned long addr)
{
	(void)addr;
}

#endif
