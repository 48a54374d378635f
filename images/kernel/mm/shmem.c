// SPDX-License-Identifier: GPL-2.0-only
/* File operations of shared memory. Mirrors mm/shmem.c: what nobody wrote has no page, and reads as zeros. */
#include <linux/fs.h>
#include <linux/syscalls.h>

static struct lock_class_key shmem_writers_key;
__used struct super_block shmem_sb = { .s_writers = { .key = &shmem_writers_key, .name = "sb_writers" } };
__used struct lock_class_key shmem_i_mutex_key;
__used const char i_mutex_name[] = "&sb->s_type->i_mutex_key";

char empty_zero_page[PAGE_SIZE] __aligned(PAGE_SIZE);

static __frame ssize_t shmem_file_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct file *file = iocb->ki_filp;
	ssize_t retval = 0;

	while (iocb->ki_pos < READ_ONCE(file->f_inode->i_size)) {
		size_t offset = (size_t)iocb->ki_pos & (PAGE_SIZE - 1), nr, ret;
		struct page *page = pagecache_get_page(file, (unsigned long)iocb->ki_pos >> PAGE_SHIFT, false);
		/* after the page was looked up: readers do not keep others from truncating */
		loff_t rest = READ_ONCE(file->f_inode->i_size) - iocb->ki_pos;

		nr = min(PAGE_SIZE - offset, to->count);
		if (rest < (loff_t)nr)
			nr = rest < 0 ? 0 : (size_t)rest;
		if (page) {
			ret = copy_page_to_iter(page_address(page), offset, nr, to);
			put_page(page);
		} else {
			ret = copy_page_to_iter(empty_zero_page, offset, nr, to);
		}
		retval += (ssize_t)ret;
		iocb->ki_pos += (loff_t)ret;
		if (!to->count || !nr)
			break;
		if (ret < nr)
			return retval ? retval : -EFAULT;
	}
	return retval;
}

static __frame ssize_t shmem_file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = iocb->ki_filp->f_inode;
	ssize_t ret;

	inode_lock(inode);
	ret = __generic_file_write_iter(iocb, from);
	inode_unlock(inode);
	return ret;
}

static __frame loff_t shmem_file_llseek(struct file *file, loff_t offset, int whence)
{
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return generic_file_llseek(file, offset, whence);
	if (offset < 0)
		return -ENXIO;
	inode_lock(file->f_inode);
	offset = mapping_seek_hole_data(file, offset, file->f_inode->i_size, whence);
	if (offset >= 0)
		offset = vfs_setpos(file, offset, MAX_LFS_FILESIZE);
	inode_unlock(file->f_inode);
	return offset;
}

__used const struct file_operations shmem_file_operations = {
	.llseek = shmem_file_llseek, .read_iter = shmem_file_read_iter, .write_iter = shmem_file_write_iter,
};
