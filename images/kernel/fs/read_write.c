// SPDX-License-Identifier: GPL-2.0-only
/*
 * write(2) to the one kind of file that has a body here: a debugfs file of a module.
 * Mirrors fs/read_write.c and fs/debugfs/file.c (full_proxy_write) as far as a stack trace shows them.
 */
#include <linux/fs.h>
#include <linux/syscalls.h>

/* kcall: the file behind a descriptor of the current task, NULL if there is none */
struct file *fget(unsigned int fd);

__frame ssize_t full_proxy_write(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	return file->f_op->real_write(file, buf, count, pos);
}

__frame ssize_t vfs_write(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	if (!file->f_op->write)
		return -EINVAL;
	return file->f_op->write(file, buf, count, pos);
}

__frame ssize_t ksys_write(unsigned int fd, const char *buf, size_t count)
{
	struct file *file = fget(fd);
	loff_t pos = 0;

	return file ? vfs_write(file, buf, count, &pos) : -9;
}
