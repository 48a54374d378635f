// SPDX-License-Identifier: GPL-2.0-only
/*
 * apply_to_page_range() on the kernel's page tables. Mirrors mm/memory.c for 4 KiB entries; the levels above the
 * entry are found, and made where asked for, by a function implemented outside.
 */
#include <linux/mm_types.h>

/* kcall: the entry's address in the direct map, NULL where a level above is missing */
pte_t *pte_offset_kernel_or_null(struct mm_struct *mm, unsigned long addr);

int apply_to_page_range(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn, void *data)
{
	for (unsigned long end = addr + size; addr < end; addr += PAGE_SIZE) {
		pte_t *pte = pte_offset_kernel_or_null(mm, addr);
		int err;

		if (!pte)
			pte = pte_alloc_kernel(mm, addr);
		if (!pte)
			return -ENOMEM;
		err = fn(pte, addr, data);
		if (err)
			return err;
	}
	return 0;
}

int apply_to_existing_page_range(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn,
				 void *data)
{
	for (unsigned long end = addr + size; addr < end; addr += PAGE_SIZE) {
		pte_t *pte = pte_offset_kernel_or_null(mm, addr);
		int err;

		if (!pte) {
			/* nothing in this table: go on behind the 2 MiB it covers */
			addr = (addr | ((1UL << 21) - 1)) + 1 - PAGE_SIZE;
			continue;
		}
		err = fn(pte, addr, data);
		if (err)
			return err;
	}
	return 0;
}
