// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading and writing through the page cache. Mirrors mm/filemap.c and lib/iov_iter.c: a reader may fault while it copies,
 * a writer holds the inode and so must not: it copies with page faults off, and touches the user's page first if that did
 * not work. Pages come from outside. Left out: readahead, writing back, O_DIRECT, page locks.
 */
#include <linux/fs.h>
#include <linux/syscalls.h>

static __frame size_t _copy_to_iter(const void *addr, size_t bytes, struct iov_iter *i)
{
	size_t copied = bytes - _inline_copy_to_user(i->ubuf, addr, bytes);

	i->ubuf += copied;
	i->count -= copied;
	return copied;
}

__frame size_t copy_page_to_iter(void *addr, size_t offset, size_t bytes, struct iov_iter *i)
{
	return _copy_to_iter((char *)addr + offset, bytes, i);
}

static size_t copy_folio_from_iter_atomic(void *to, size_t bytes, struct iov_iter *i)
{
	size_t copied;

	current->pagefault_disabled++;
	copied = bytes - raw_copy_from_user(to, i->ubuf, bytes);
	current->pagefault_disabled--;
	i->ubuf += copied;
	i->count -= copied;
	return copied;
}

/* How many of the bytes cannot be reached: one byte of each page is read. */
static __frame size_t fault_in_readable(const char *uaddr, size_t size)
{
	const char *start = uaddr, *end = uaddr + size;
	char c;

	while (start < end) {
		if (copy_from_user(&c, start, 1))
			return (size_t)(end - start);
		start = (const char *)(((unsigned long)start & PAGE_MASK) + PAGE_SIZE);
	}
	return 0;
}

/* One page after the other up to the end of the file, wherever that is by then. */
__frame ssize_t filemap_read(struct kiocb *iocb, struct iov_iter *iter)
{
	struct file *file = iocb->ki_filp;
	ssize_t done = 0;

	while (iter->count && iocb->ki_pos < READ_ONCE(file->f_inode->i_size)) {
		size_t offset = (size_t)iocb->ki_pos & (PAGE_SIZE - 1), left, copied;
		struct page *page = pagecache_get_page(file, (unsigned long)iocb->ki_pos >> PAGE_SHIFT, true);
		loff_t rest;

		if (IS_ERR_VALUE(page))
			return done ? done : (ssize_t)page;
		rest = READ_ONCE(file->f_inode->i_size) - iocb->ki_pos;
		left = min(PAGE_SIZE - offset, iter->count);
		if (rest < (loff_t)left)
			left = rest < 0 ? 0 : (size_t)rest;
		copied = copy_page_to_iter(page_address(page), offset, left, iter);
		put_page(page);
		iocb->ki_pos += (loff_t)copied;
		done += (ssize_t)copied;
		if (copied < left)
			return done ? done : -EFAULT;
	}
	return done;
}

static __frame ssize_t generic_perform_write(struct kiocb *iocb, struct iov_iter *i)
{
	struct file *file = iocb->ki_filp;
	loff_t pos = iocb->ki_pos;
	ssize_t status = 0;

	while (i->count) {
		size_t offset = (size_t)pos & (PAGE_SIZE - 1), bytes = min(PAGE_SIZE - offset, i->count), copied;
		struct page *page;

		if (fatal_signal_pending(current)) {
			status = -EINTR;
			break;
		}
		page = pagecache_get_page(file, (unsigned long)pos >> PAGE_SHIFT, true);
		if (IS_ERR_VALUE(page)) {
			status = (ssize_t)page;
			break;
		}
		copied = copy_folio_from_iter_atomic((char *)page_address(page) + offset, bytes, i);
		folio_write_end(file, pos, copied);
		put_page(page);
		pos += (loff_t)copied;
		if (!copied && fault_in_readable(i->ubuf, bytes) == bytes) {
			status = -EFAULT;
			break;
		}
	}
	if (pos == iocb->ki_pos)
		return status;
	status = (ssize_t)(pos - iocb->ki_pos);
	iocb->ki_pos = pos;
	return status;
}

/* With the inode locked: generic_write_checks() too. */
__frame ssize_t __generic_file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	if (!from->count)
		return 0;
	if (iocb->ki_pos >= MAX_LFS_FILESIZE)
		return -EFBIG;
	from->count = min(from->count, (size_t)(MAX_LFS_FILESIZE - iocb->ki_pos));
	return generic_perform_write(iocb, from);
}
