/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mmap_lock and the locks of single VMAs. Mirrors include/linux/mmap_lock.h of 6.18. Left out: tracepoints, asserts,
 * speculation (mmap_lock_speculate_*).
 *
 *      mm_lock_seq   odd while mmap_lock is held for writing
 *      vm_lock_seq   equal to it: the VMA is write-locked, until mmap_lock is given up
 *      vm_refcnt     0 detached, 1 attached, + 1 for each reader, + VMA_LOCK_OFFSET while a writer waits for them
 *
 * What is out of line here is so in the reference kernel: lockdep's `at:` and the traces name it. What is inline has an
 * out-of-line twin of its plain name for callers outside.
 */
#ifndef _LINUX_MMAP_LOCK_H
#define _LINUX_MMAP_LOCK_H

#include <linux/atomic.h>
#include <linux/rwsem.h>

#define VMA_LOCK_OFFSET 0x40000000
#define VMA_REF_LIMIT (VMA_LOCK_OFFSET - 1)

/* mm/mmap_lock.c */
void mmap_read_lock(struct mm_struct *mm);
int mmap_read_lock_killable(struct mm_struct *mm);
bool mmap_read_trylock(struct mm_struct *mm);
void mmap_read_unlock(struct mm_struct *mm);
struct vm_area_struct *lock_mm_and_find_vma(struct mm_struct *mm, unsigned long addr, struct pt_regs *regs);
struct vm_area_struct *lock_vma_under_rcu(struct mm_struct *mm, unsigned long address);
void vma_end_read(struct vm_area_struct *vma);
void vma_refcount_put(struct vm_area_struct *vma);
void __vma_start_write(struct vm_area_struct *vma, unsigned int mm_lock_seq);
void vma_mark_attached(struct vm_area_struct *vma);
void vma_mark_detached(struct vm_area_struct *vma);

static __always_inline void mm_lock_seqcount_step(struct mm_struct *mm)
{
	smp_store_release(&mm->mm_lock_seq, mm->mm_lock_seq + 1);
}

static __always_inline void inline_mmap_write_lock(struct mm_struct *mm)
{
	down_write(&mm->mmap_lock);
	mm_lock_seqcount_step(mm);
}

/* 0 or -EINTR */
static __always_inline int inline_mmap_write_lock_killable(struct mm_struct *mm)
{
	int ret = down_write_killable(&mm->mmap_lock);

	if (!ret)
		mm_lock_seqcount_step(mm);
	return ret;
}

static __always_inline bool inline_mmap_write_trylock(struct mm_struct *mm)
{
	if (!down_write_trylock(&mm->mmap_lock))
		return false;
	mm_lock_seqcount_step(mm);
	return true;
}

/* No VMA is write-locked any more. */
static __always_inline void vma_end_write_all(struct mm_struct *mm)
{
	mm_lock_seqcount_step(mm);
}

static __always_inline void inline_mmap_write_unlock(struct mm_struct *mm)
{
	vma_end_write_all(mm);
	up_write(&mm->mmap_lock);
}

static __always_inline void inline_mmap_write_downgrade(struct mm_struct *mm)
{
	vma_end_write_all(mm);
	downgrade_write(&mm->mmap_lock);
}

/* Keep readers out of the VMA until mmap_lock, which is held for writing, is given up. */
static __always_inline void inline_vma_start_write(struct vm_area_struct *vma)
{
	unsigned int seq = vma->vm_mm->mm_lock_seq;

	if (vma->vm_lock_seq != seq)
		__vma_start_write(vma, seq);
}

#define mmap_write_downgrade(x) inline_mmap_write_downgrade(x)
#define mmap_write_lock(x) inline_mmap_write_lock(x)
#define mmap_write_lock_killable(x) inline_mmap_write_lock_killable(x)
#define mmap_write_trylock(x) inline_mmap_write_trylock(x)
#define mmap_write_unlock(x) inline_mmap_write_unlock(x)
#define vma_start_write(x) inline_vma_start_write(x)

#endif
