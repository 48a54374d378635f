// SPDX-License-Identifier: GPL-2.0-only
/*
 * write(2) to the files that have a body here: debugfs files of modules, /proc/sysrq-trigger, a pipe (fs/pipe.c).
 * Mirrors fs/read_write.c and fs/debugfs/file.c (full_proxy_write) as far as a stack trace shows them.
 */
#include <linux/fs.h>
#include <linux/lockdep.h>
#include <linux/syscalls.h>

/* fs/super.c: each type of file system has a class of its own */
static struct lock_class_key debugfs_writers_key, proc_writers_key;
struct super_block debugfs_sb = { .s_writers = { .key = &debugfs_writers_key, .name = "sb_writers" } };
struct super_block proc_sb = { .s_writers = { .key = &proc_writers_key, .name = "sb_writers" } };

/* kcall: the file behind a descriptor of the current task, NULL if there is none */
struct file *fget(unsigned int fd);

__frame ssize_t full_proxy_write(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	return file->f_op->real_write(file, buf, count, pos);
}

__frame ssize_t vfs_write(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	ssize_t ret;

	if (!file->f_op->write)
		return -EINVAL;
	if (file->sb)
		rwsem_acquire_read(&file->sb->s_writers, 0, 0, _THIS_IP_);	/* file_start_write() */
	ret = file->f_op->write(file, buf, count, pos);
	if (file->sb)
		rwsem_release(&file->sb->s_writers, _THIS_IP_);
	return ret;
}

__frame ssize_t ksys_write(unsigned int fd, const char *buf, size_t count)
{
	struct file *file = fget(fd);
	loff_t pos = 0;

	return file ? vfs_write(file, buf, count, &pos) : -EBADF;
}
