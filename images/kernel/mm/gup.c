// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another address space, read by the kernel: its pages are faulted in with its mmap_lock held. Mirrors mm/gup.c
 * (get_user_pages_remote() of one page) and mm/memory.c (__access_remote_vm(), access_process_vm(),
 * copy_remote_vm_str()) of 6.18. Left out: writing, FOLL_FORCE, vm_ops->access, memory without pages, task_lock().
 *
 * Nobody may drop mmap_lock on the way: without `locked` a fault gets no FAULT_FLAG_ALLOW_RETRY.
 */
#include <linux/mmap_lock.h>
#include <linux/sched.h>
#include <linux/gup.h>
#include <asm/pgtable.h>

#define FAULT_FLAG_REMOTE 0x80

/* kcalls */
void get_page(struct page *page);
void put_page(struct page *page);
void *page_address(const struct page *page);

/* mm/memory.c: the last level's entry of `addr`; NULL where a table is missing */
pte_t *pte_offset_user(struct mm_struct *mm, unsigned long addr);

/* The page at `addr` with a reference, NULL where it cannot be had; mmap_lock is held for reading. */
__frame struct page *get_user_page_vma_remote(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma = mas_walk_vma(mm, addr);
	pte_t *pte, entry;

	if (!vma || !(vma->vm_flags & VM_READ))
		return NULL;
	for (;;) {
		pte = pte_offset_user(mm, addr);
		if (pte) {
			entry = ptep_get(pte);
			if (pte_present(entry)) {
				get_page(pte_page(entry));
				return pte_page(entry);
			}
		}
		if (handle_mm_fault(vma, addr, FAULT_FLAG_REMOTE, NULL) & VM_FAULT_ERROR)
			return NULL;
	}
}

/* mmap_lock is held for reading, and on failure no longer: a stack grows with the lock held for writing. */
__frame struct vm_area_struct *expand_stack(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma;

	mmap_read_unlock(mm);
	if (mmap_write_lock_killable(mm))
		return NULL;
	vma = find_vma(mm, addr);
	if (!vma || (vma->vm_start > addr && (!(vma->vm_flags & VM_GROWSDOWN) || expand_stack_locked(vma, addr)))) {
		mmap_write_unlock(mm);
		return NULL;
	}
	mmap_write_downgrade(mm);
	return vma;
}

static unsigned long in_page(unsigned long addr, unsigned long len)
{
	return min(len, PAGE_SIZE - (addr & (PAGE_SIZE - 1)));
}

/* How many bytes were read. */
__frame int __access_remote_vm(struct mm_struct *mm, unsigned long addr, void *buf, int len, unsigned int gup_flags)
{
	char *to = buf;

	(void)gup_flags;
	if (mmap_read_lock_killable(mm))
		return 0;
	if (!mas_walk_vma(mm, addr) && !expand_stack(mm, addr))
		return 0;
	while (len) {
		unsigned long bytes = in_page(addr, len);
		struct page *page = get_user_page_vma_remote(mm, addr);

		if (!page) {
			if (mas_walk_vma(mm, addr))
				break;
			if (!expand_stack(mm, addr))
				return to - (char *)buf;
			continue;
		}
		memcpy(to, (char *)page_address(page) + (addr & (PAGE_SIZE - 1)), bytes);
		put_page(page);
		len -= bytes;
		to += bytes;
		addr += bytes;
	}
	mmap_read_unlock(mm);
	return to - (char *)buf;
}

/* The task's address space with a reference; it does not go away here with its last one: mmput() only counts. */
static struct mm_struct *get_task_mm(struct task_struct *task)
{
	struct mm_struct *mm = task->flags & PF_KTHREAD ? NULL : task->mm;

	if (mm)
		atomic_fetch_add(1, &mm->mm_users);
	return mm;
}

static void mmput(struct mm_struct *mm)
{
	atomic_fetch_add(-1, &mm->mm_users);
}

__frame int access_process_vm(struct task_struct *tsk, unsigned long addr, void *buf, int len, unsigned int gup_flags)
{
	struct mm_struct *mm = get_task_mm(tsk);
	int ret;

	if (!mm)
		return 0;
	ret = __access_remote_vm(mm, addr, buf, len, gup_flags);
	mmput(mm);
	return ret;
}

/* The string's length without its NUL, which is always there: `len` is not 0. Or -EFAULT, and an empty string. */
static int __copy_remote_vm_str(struct mm_struct *mm, unsigned long addr, char *buf, int len)
{
	int copied = 0;

	buf[0] = '\0';
	if (mmap_read_lock_killable(mm))
		return -EFAULT;
	while (copied < len) {
		unsigned long bytes = in_page(addr, len - copied);
		struct page *page = get_user_page_vma_remote(mm, addr);
		const char *from;
		unsigned long i;

		if (!page) {
			buf[0] = '\0';
			mmap_read_unlock(mm);
			return -EFAULT;
		}
		from = (const char *)page_address(page) + (addr & (PAGE_SIZE - 1));
		for (i = 0; i < bytes && from[i]; i++)
			buf[copied + i] = from[i];
		put_page(page);
		copied += i;
		addr += i;
		if (i < bytes)
			break;
	}
	if (copied == len)
		copied--;
	buf[copied] = '\0';
	mmap_read_unlock(mm);
	return copied;
}

__frame int copy_remote_vm_str(struct task_struct *tsk, unsigned long addr, void *buf, int len, unsigned int gup_flags)
{
	struct mm_struct *mm;
	int ret;

	(void)gup_flags;
	if (!len)
		return 0;
	mm = get_task_mm(tsk);
	if (!mm) {
		*(char *)buf = '\0';
		return -EFAULT;
	}
	ret = __copy_remote_vm_str(mm, addr, buf, len);
	mmput(mm);
	return ret;
}
