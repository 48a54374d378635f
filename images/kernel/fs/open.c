// SPDX-License-Identifier: GPL-2.0-only
/*
 * openat(2), ftruncate(2) and close(2). Mirrors fs/open.c. Left out: permissions, times, set-user-id bits, locks of a file;
 * what a name means is said outside.
 */
#include <linux/fs.h>
#include <linux/syscalls.h>

#define O_ACCMODE 03
#define O_CREAT 0100
#define O_EXCL 0200
#define O_NOCTTY 0400
#define O_TRUNC 01000
#define O_CLOEXEC 02000000
#ifdef __x86_64__
#define O_LARGEFILE 0100000
#else
#define O_LARGEFILE 0400000
#endif
#define O_MODELLED (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC | O_LARGEFILE)
#define PATH_MAX 4096

/* kcalls: a reference or -errno, *created says whether the file is new; flags that are not there */
struct file *do_filp_open(int dfd, const char *pathname, int flags, bool *created);
void open_flags_not_modelled(int flags);

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

static __frame struct file *path_openat(int dfd, const char *name, int flags)
{
	bool created = false;
	struct file *file = do_filp_open(dfd, name, flags, &created);

	if (!IS_ERR_VALUE(file) && flags & O_TRUNC && !created)
		do_truncate(file, 0);	/* handle_truncate(): however it was opened */
	return file;
}

__frame long do_sys_openat2(int dfd, const char *filename, int flags)
{
	struct file *file;
	char *name;
	long len;
	int fd;

	if (flags & ~O_MODELLED)
		open_flags_not_modelled(flags & ~O_MODELLED);
	name = kmalloc(PATH_MAX, GFP_KERNEL);	/* getname() */
	if (!name)
		return -ENOMEM;
	len = strncpy_from_user(name, filename, PATH_MAX);
	fd = len < 0 ? -EFAULT : !len ? -ENOENT : len == PATH_MAX ? -ENAMETOOLONG : get_unused_fd_flags(0);
	if (fd >= 0) {
		file = path_openat(dfd, name, flags);
		if (IS_ERR_VALUE(file)) {
			put_unused_fd((unsigned int)fd);
			fd = (int)(long)file;
		} else {
			fd_install((unsigned int)fd, file);
		}
	}
	kfree(name);
	return fd;
}

__frame int close_fd(unsigned int fd)
{
	struct file *file = file_close_fd(fd);

	if (!file)
		return -EBADF;
	fput(file);
	return 0;
}
