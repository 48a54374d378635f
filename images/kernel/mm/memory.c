// SPDX-License-Identifier: GPL-2.0-only
/*
 * apply_to_page_range() on the kernel's page tables: a real walk of four levels down to 4 KiB entries.
 * Mirrors mm/memory.c; only the making of a missing table is outside. And handle_mm_fault()'s way in and out.
 */
#include <linux/mmap_lock.h>
#include <asm/pgtable.h>

#define PGDIR_SHIFT 39
#define PMD_SHIFT 21
#define PMD_SIZE (1UL << PMD_SHIFT)
#define PTRS_PER_TABLE 512
#define LEVEL_BITS 9

/* kcalls: put a table under an empty entry; 0 or -ENOMEM */
int __pud_alloc(struct mm_struct *mm, p4d_t *p4d, unsigned long address);
int __pmd_alloc(struct mm_struct *mm, pud_t *pud, unsigned long address);
int __pte_alloc_kernel(pmd_t *pmd);

static int alloc_below(struct mm_struct *mm, u64 *entry, unsigned int shift, unsigned long addr)
{
	if (shift == PGDIR_SHIFT)
		return __pud_alloc(mm, (p4d_t *)entry, addr);
	if (shift == PMD_SHIFT)
		return __pte_alloc_kernel((pmd_t *)entry);
	return __pmd_alloc(mm, (pud_t *)entry, addr);
}

/*
 * The entry of `addr`. Where a table is missing: made if `create`, else NULL and in *span what the missing entry
 * covers. A block ends the walk too: it is no range of single pages.
 */
static pte_t *pte_offset(struct mm_struct *mm, unsigned long addr, bool create, unsigned long *span, int *err)
{
	u64 *table = (u64 *)mm->pgd;

	*err = 0;
	for (unsigned int shift = PGDIR_SHIFT; shift >= PMD_SHIFT; shift -= LEVEL_BITS) {
		u64 *entry = table + (addr >> shift & (PTRS_PER_TABLE - 1));

		*span = 1UL << shift;
		if (!READ_ONCE(*entry)) {
			if (!create)
				return NULL;
			*err = alloc_below(mm, entry, shift, addr);
			if (*err)
				return NULL;
		}
		if (pxd_leaf(READ_ONCE(*entry))) {
			*err = create ? -EINVAL : 0;
			return NULL;
		}
		table = pxd_table(READ_ONCE(*entry));
	}
	return (pte_t *)table + (addr >> PAGE_SHIFT & (PTRS_PER_TABLE - 1));
}

static int apply(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn, void *data, bool create)
{
	unsigned long end = addr + size, span;
	int err;

	while (addr < end) {
		unsigned long stop = min((addr & -PMD_SIZE) + PMD_SIZE, end);
		pte_t *pte = pte_offset(mm, addr, create, &span, &err);

		if (err)
			return err;
		if (!pte) {
			addr = (addr & -span) + span;
			continue;
		}
		for (; addr < stop; addr += PAGE_SIZE, pte++) {
			/* without a function only the tables are wanted */
			err = fn && (create || !pte_none(ptep_get(pte))) ? fn(pte, addr, data) : 0;
			if (err)
				return err;
		}
	}
	return 0;
}

int apply_to_page_range(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn, void *data)
{
	return apply(mm, addr, size, fn, data, true);
}

int apply_to_existing_page_range(struct mm_struct *mm, unsigned long addr, unsigned long size, pte_fn_t fn,
				 void *data)
{
	return apply(mm, addr, size, fn, data, false);
}

/* mm/gup.c: the entry of a user address, which may change at once; NULL where a table is missing */
pte_t *pte_offset_user(struct mm_struct *mm, unsigned long addr);

__frame pte_t *pte_offset_user(struct mm_struct *mm, unsigned long addr)
{
	unsigned long span;
	int err;

	return pte_offset(mm, addr, false, &span, &err);
}

/* A fault that must be tried again, or is complete without its lock, ends without it: release_fault_lock(). */
__frame vm_fault_t handle_mm_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags,
				   struct pt_regs *regs)
{
	struct mm_struct *mm = vma->vm_mm;
	vm_fault_t ret = __handle_mm_fault(vma, address, flags, regs);

	if (ret & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)) {
		if (flags & FAULT_FLAG_VMA_LOCK)
			vma_end_read(vma);
		else
			mmap_read_unlock(mm);
	}
	return ret;
}
