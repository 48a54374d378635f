// SPDX-License-Identifier: GPL-2.0-only
/* mincore(): page by page of answers, copied out without a lock. Mirrors mm/mincore.c; which pages are there is outside. */
#include <linux/mmap_lock.h>
#include <linux/syscalls.h>

/* kcall: fills `vec` for some of the pages, at least one; how many, or -errno */
long do_mincore(unsigned long addr, unsigned long pages, unsigned char *vec);

__frame long __do_sys_mincore(unsigned long start, size_t len, unsigned char *vec)
{
	struct mm_struct *mm = current->mm;
	unsigned long pages = (len >> PAGE_SHIFT) + !!(len & (PAGE_SIZE - 1));
	unsigned char *answers;
	long ret = 0;

	if (start & (PAGE_SIZE - 1))
		return -EINVAL;
	if (!access_ok((void *)start, len))
		return -ENOMEM;
	if (!access_ok(vec, pages))
		return -EFAULT;
	answers = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!answers)
		return -EAGAIN;
	while (pages) {
		mmap_read_lock(mm);
		ret = do_mincore(start, min(pages, PAGE_SIZE), answers);
		mmap_read_unlock(mm);
		if (ret <= 0)
			break;
		if (copy_to_user(vec, answers, (unsigned long)ret)) {
			ret = -EFAULT;
			break;
		}
		pages -= (unsigned long)ret;
		vec += ret;
		start += (unsigned long)ret << PAGE_SHIFT;
		ret = 0;
	}
	kfree(answers);
	return ret;
}
