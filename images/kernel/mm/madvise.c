// SPDX-License-Identifier: GPL-2.0-only
/*
 * madvise(): which lock which advice needs. Mirrors mm/madvise.c of 6.18; what the advice does is outside. Left out:
 * process_madvise(), userfaultfd, memory failures, giving mmap_lock up on the way.
 */
#include <linux/mmap_lock.h>
#include <linux/syscalls.h>

#define MADV_WILLNEED 3
#define MADV_DONTNEED 4
#define MADV_FREE 8
#define MADV_REMOVE 9
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#define MADV_DONTNEED_LOCKED 24
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103

/* kcalls: 0 or -errno; all of a range of the current address space, a part of one VMA */
bool madvise_behavior_valid(int behavior);
int madvise_do_behavior(unsigned long start, unsigned long end, int behavior);
int madvise_vma_behavior(struct vm_area_struct *vma, unsigned long start, unsigned long end, int behavior);

enum madvise_lock_mode {
	MADVISE_MMAP_READ_LOCK,
	MADVISE_MMAP_WRITE_LOCK,
	MADVISE_VMA_READ_LOCK,
};

/* Whoever changes vm_flags needs mmap_lock for writing; for dropping pages the lock of their VMA will do. */
static __always_inline enum madvise_lock_mode get_lock_mode(int behavior)
{
	switch (behavior) {
	case MADV_REMOVE:
	case MADV_WILLNEED:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_GUARD_INSTALL:
	case MADV_GUARD_REMOVE:
		return MADVISE_MMAP_READ_LOCK;
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_FREE:
		return MADVISE_VMA_READ_LOCK;
	default:
		return MADVISE_MMAP_WRITE_LOCK;
	}
}

/* With the lock of the one VMA that holds all of the range; false, and without a lock, where there is none. */
static __always_inline bool try_vma_read_lock(struct mm_struct *mm, unsigned long start, unsigned long end,
					      int behavior, int *error)
{
	struct vm_area_struct *vma = lock_vma_under_rcu(mm, start);
	bool inside;

	if (!vma)
		return false;
	inside = end <= vma->vm_end;
	if (inside)
		*error = madvise_vma_behavior(vma, start, end, behavior);
	vma_end_read(vma);
	return inside;
}

__frame int do_madvise(unsigned long start, size_t len_in, int behavior)
{
	struct mm_struct *mm = current->mm;
	unsigned long len = (len_in + PAGE_SIZE - 1) & -PAGE_SIZE, end = start + len;
	enum madvise_lock_mode mode = get_lock_mode(behavior);
	int error;

	if (!madvise_behavior_valid(behavior) || start & (PAGE_SIZE - 1) || (len_in && !len) || end < start)
		return -EINVAL;
	if (end == start)
		return 0;
	if (mode == MADVISE_MMAP_WRITE_LOCK) {
		if (mmap_write_lock_killable(mm))
			return -EINTR;
		error = madvise_do_behavior(start, end, behavior);
		mmap_write_unlock(mm);
		return error;
	}
	if (mode == MADVISE_VMA_READ_LOCK && try_vma_read_lock(mm, start, end, behavior, &error))
		return error;
	mmap_read_lock(mm);
	error = madvise_do_behavior(start, end, behavior);
	mmap_read_unlock(mm);
	return error;
}
