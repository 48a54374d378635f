// SPDX-License-Identifier: GPL-2.0-only
/*
 * The system calls that change an address space: what they lock, and for how long. Mirrors mm/util.c (vm_mmap_pgoff),
 * mm/mmap.c, mm/vma.c (__vm_munmap), mm/mprotect.c and, of mm/gup.c, __mm_populate; what happens to VMAs and pages is
 * outside. Left out: huge pages.
 */
#include <linux/fs.h>
#include <linux/mmap_lock.h>
#include <linux/syscalls.h>

#define MAP_ANONYMOUS 0x20
#define MAP_POPULATE 0x8000
#define MAP_NONBLOCK 0x10000

/* kcalls, on the address space of the current task; an address or -errno, 0 or -errno */
unsigned long do_mmap(struct file *file, unsigned long addr, unsigned long len, unsigned long prot,
		      unsigned long flags, unsigned long pgoff);
long vms_gather_munmap_vmas(unsigned long start, unsigned long end);	/* number of a list; 0: nothing is mapped there */
void vms_clear_ptes(long vms);
void remove_vmas(long vms);
int mprotect_range(unsigned long start, size_t len, unsigned long prot);
long brk_vms(unsigned long brk);	/* moves mm->brk; the same number, of what was cut off */
void populate_range(unsigned long start, unsigned long len);

__frame int __mm_populate(unsigned long start, unsigned long len, int ignore_errors)
{
	struct mm_struct *mm = current->mm;

	(void)ignore_errors;
	mmap_read_lock(mm);
	populate_range(start, len);
	mmap_read_unlock(mm);
	return 0;
}

__frame unsigned long vm_mmap_pgoff(struct file *file, unsigned long addr, unsigned long len, unsigned long prot,
				    unsigned long flag, unsigned long pgoff)
{
	struct mm_struct *mm = current->mm;
	unsigned long ret;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = do_mmap(file, addr, len, prot, flag, pgoff);
	mmap_write_unlock(mm);
	if (!IS_ERR_VALUE(ret) && (flag & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE)
		__mm_populate(ret, len, 1);
	return ret;
}

__frame unsigned long ksys_mmap_pgoff(unsigned long addr, unsigned long len, unsigned long prot, unsigned long flags,
				      unsigned long fd, unsigned long pgoff)
{
	struct file *file = NULL;
	unsigned long retval;

	if (!(flags & MAP_ANONYMOUS)) {
		file = fget((unsigned int)fd);
		if (!file)
			return -EBADF;
	}
	retval = vm_mmap_pgoff(file, addr, len, prot, flags, pgoff);
	if (file)
		fput(file);
	return retval;
}

/* The VMAs are out of the tree: their pages go while others may read it. */
__frame void vms_complete_munmap_vmas(struct mm_struct *mm, long vms)
{
	mmap_write_downgrade(mm);
	vms_clear_ptes(vms);
	remove_vmas(vms);
	mmap_read_unlock(mm);
}

/* 0: mmap_lock is no longer held; otherwise it still is */
__frame int do_vmi_align_munmap(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	long vms = vms_gather_munmap_vmas(start, end);

	if (vms < 0)
		return vms;
	if (vms)
		vms_complete_munmap_vmas(mm, vms);
	else
		mmap_write_unlock(mm);
	return 0;
}

__frame int do_vmi_munmap(struct mm_struct *mm, unsigned long start, size_t len)
{
	if (start & (PAGE_SIZE - 1) || start > mm->task_size || len > mm->task_size - start || !len)
		return -EINVAL;
	return do_vmi_align_munmap(mm, start, start + ((len + PAGE_SIZE - 1) & -PAGE_SIZE));
}

__frame int __vm_munmap(unsigned long start, size_t len)
{
	struct mm_struct *mm = current->mm;
	int ret;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = do_vmi_munmap(mm, start, len);
	if (ret)
		mmap_write_unlock(mm);
	return ret;
}

/* The end of the heap afterwards. What was cut off goes as in munmap(): while others may read the tree. */
__frame unsigned long __do_sys_brk(unsigned long brk)
{
	struct mm_struct *mm = current->mm;
	unsigned long end;
	long vms;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	vms = brk_vms(brk);
	end = mm->brk;
	if (vms)
		vms_complete_munmap_vmas(mm, vms);
	else
		mmap_write_unlock(mm);
	return end;
}

__frame int do_mprotect_pkey(unsigned long start, size_t len, unsigned long prot)
{
	struct mm_struct *mm = current->mm;
	int ret;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = mprotect_range(start, len, prot);
	mmap_write_unlock(mm);
	return ret;
}
