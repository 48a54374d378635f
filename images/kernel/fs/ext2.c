// SPDX-License-Identifier: GPL-2.0-only
/* File operations of files on a store. Mirrors fs/ext2/file.c; blocks and directories are left out. */
#include <linux/fs.h>
#include <linux/syscalls.h>

static struct lock_class_key ext2_writers_key;
__used struct super_block ext2_sb = { .s_writers = { .key = &ext2_writers_key, .name = "sb_writers" } };
__used struct lock_class_key ext2_i_mutex_key;

static __frame ssize_t generic_file_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return to->count ? filemap_read(iocb, to) : 0;
}

static __frame ssize_t ext2_file_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return generic_file_read_iter(iocb, to);
}

static __frame ssize_t generic_file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = iocb->ki_filp->f_inode;
	ssize_t ret;

	inode_lock(inode);
	ret = __generic_file_write_iter(iocb, from);
	inode_unlock(inode);
	return ret;
}

static __frame ssize_t ext2_file_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return generic_file_write_iter(iocb, from);
}

__used const struct file_operations ext2_file_operations = {
	.llseek = generic_file_llseek, .read_iter = ext2_file_read_iter, .write_iter = ext2_file_write_iter,
};
