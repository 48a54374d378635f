// SPDX-License-Identifier: GPL-2.0-only
/* ftruncate(2) and close(2). Mirrors fs/open.c. Left out: permissions, times, set-user-id bits, locks of a file. */
#include <linux/fs.h>
#include <linux/syscalls.h>

static __frame int do_truncate(struct file *file, loff_t length)
{
	inode_lock(file->f_inode);
	notify_change(file, length);
	inode_unlock(file->f_inode);
	return 0;
}

static __frame int do_ftruncate(struct file *file, loff_t length)
{
	int error;

	if (!file->f_inode || !(file->f_mode & FMODE_WRITE))
		return -EINVAL;
	file_start_write(file);
	error = do_truncate(file, length);
	file_end_write(file);
	return error;
}

__frame long ksys_ftruncate(unsigned int fd, loff_t length)
{
	struct file *file;
	long error;

	if (length < 0)
		return -EINVAL;
	file = fget(fd);
	if (!file)
		return -EBADF;
	error = do_ftruncate(file, length);
	fput(file);
	return error;
}

__frame int close_fd(unsigned int fd)
{
	struct file *file = file_close_fd(fd);

	if (!file)
		return -EBADF;
	fput(file);
	return 0;
}
