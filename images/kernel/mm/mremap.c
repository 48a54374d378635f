// SPDX-License-Identifier: GPL-2.0-only
/*
 * mremap(): its locks, and shrinking in place, which is munmap(). Mirrors mm/mremap.c of 6.18; what happens to VMAs and
 * entries is outside. Left out: userfaultfd, sealing, memory locks, tags in addresses.
 */
#include <linux/mmap_lock.h>
#include <linux/syscalls.h>

#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4

/* kcalls, on the current address space: 0 or -errno; an address or -errno */
int check_mremap_params(unsigned long addr, unsigned long old_len, unsigned long new_len, unsigned long flags,
			unsigned long new_addr);
unsigned long mremap_range(unsigned long addr, unsigned long old_len, unsigned long new_len, unsigned long flags,
			   unsigned long new_addr);

/* 0: mmap_lock, which was held for writing, is no longer held; otherwise it still is */
static __always_inline int shrink_vma(struct mm_struct *mm, unsigned long addr, unsigned long old_len,
				      unsigned long new_len)
{
	if (!mas_walk_vma(mm, addr))
		return -EFAULT;
	return do_vmi_munmap(mm, addr + new_len, old_len - new_len);
}

__frame unsigned long do_mremap(unsigned long addr, unsigned long old_len, unsigned long new_len, unsigned long flags,
				unsigned long new_addr)
{
	struct mm_struct *mm = current->mm;
	unsigned long res;

	old_len = (old_len + PAGE_SIZE - 1) & -PAGE_SIZE;
	new_len = (new_len + PAGE_SIZE - 1) & -PAGE_SIZE;
	res = (long)check_mremap_params(addr, old_len, new_len, flags, new_addr);
	if (res)
		return res;
	if (mmap_write_lock_killable(mm))
		return -EINTR;
	if (old_len > new_len && !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))) {
		res = (long)shrink_vma(mm, addr, old_len, new_len);
		if (!res)
			return addr;
	} else {
		res = mremap_range(addr, old_len, new_len, flags, new_addr);
	}
	mmap_write_unlock(mm);
	return res;
}
