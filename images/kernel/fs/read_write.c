// SPDX-License-Identifier: GPL-2.0-only
/*
 * read(2), write(2), pread64(2), pwrite64(2), lseek(2): checks, positions, and who does the work. Files with pages do it
 * with iterators, those of modules and /proc/sysrq-trigger with a write() of their own. Mirrors fs/read_write.c, fs/file.c
 * (fdget_pos) and fs/debugfs/file.c (full_proxy_write). Left out: fsnotify, freezing, vectors, O_APPEND, O_DIRECT.
 */
#include <linux/fs.h>
#include <linux/syscalls.h>

/* fs/super.c: each type of file system has a class of its own */
static struct lock_class_key debugfs_writers_key, proc_writers_key;
struct super_block debugfs_sb = { .s_writers = { .key = &debugfs_writers_key, .name = "sb_writers" } };
struct super_block proc_sb = { .s_writers = { .key = &proc_writers_key, .name = "sb_writers" } };

__used struct lock_class_key f_pos_lock_key;
__used const char f_pos_lock_name[] = "&f->f_pos_lock";

struct fd {
	struct file *file;
	bool pos_locked;
};

static struct fd fdget_pos(unsigned int fd)
{
	struct fd f = { .file = fget(fd) };

	if (f.file && file_needs_f_pos_lock(f.file)) {
		mutex_lock(&f.file->f_pos_lock);
		f.pos_locked = true;
	}
	return f;
}

static void fdput_pos(struct fd f)
{
	if (f.pos_locked)
		mutex_unlock(&f.file->f_pos_lock);
	fput(f.file);
}

static int rw_verify_area(loff_t pos, size_t count)
{
	return (ssize_t)count < 0 || pos < 0 || (loff_t)((u64)pos + count) < 0 ? -EINVAL : 0;
}

__frame ssize_t full_proxy_write(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	return file->f_op->real_write(file, buf, count, pos);
}

__frame ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)
{
	struct kiocb kiocb = { .ki_filp = file, .ki_pos = *pos };
	struct iov_iter iter = { .ubuf = buf, .count = min(count, MAX_RW_COUNT) };
	ssize_t ret;

	if (!(file->f_mode & FMODE_READ))
		return -EBADF;
	if (!(file->f_mode & FMODE_CAN_READ))
		return -EINVAL;
	if (!access_ok(buf, count))
		return -EFAULT;
	ret = rw_verify_area(*pos, count);
	if (ret)
		return ret;
	ret = file->f_op->read_iter(&kiocb, &iter);
	*pos = kiocb.ki_pos;
	return ret;
}

__frame ssize_t vfs_write(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	struct kiocb kiocb = { .ki_filp = file, .ki_pos = *pos };
	struct iov_iter iter = { .ubuf = (char *)buf, .count = min(count, MAX_RW_COUNT) };
	ssize_t ret;

	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (!(file->f_mode & FMODE_CAN_WRITE))
		return -EINVAL;
	if (!access_ok(buf, count))
		return -EFAULT;
	ret = rw_verify_area(*pos, count);
	if (ret)
		return ret;
	file_start_write(file);
	if (file->f_op->write) {
		ret = file->f_op->write(file, buf, iter.count, pos);
	} else {
		ret = file->f_op->write_iter(&kiocb, &iter);
		if (ret > 0)
			*pos = kiocb.ki_pos;
	}
	file_end_write(file);
	return ret;
}

__frame ssize_t ksys_read(unsigned int fd, char *buf, size_t count)
{
	struct fd f = fdget_pos(fd);
	ssize_t ret;
	loff_t pos;

	if (!f.file)
		return -EBADF;
	pos = f.file->f_pos;
	ret = vfs_read(f.file, buf, count, &pos);
	if (ret >= 0)
		f.file->f_pos = pos;
	fdput_pos(f);
	return ret;
}

__frame ssize_t ksys_write(unsigned int fd, const char *buf, size_t count)
{
	struct fd f = fdget_pos(fd);
	ssize_t ret;
	loff_t pos;

	if (!f.file)
		return -EBADF;
	pos = f.file->f_pos;
	ret = vfs_write(f.file, buf, count, &pos);
	if (ret >= 0)
		f.file->f_pos = pos;
	fdput_pos(f);
	return ret;
}

__frame ssize_t ksys_pread64(unsigned int fd, char *buf, size_t count, loff_t pos)
{
	struct file *file;
	ssize_t ret = -ESPIPE;

	if (pos < 0)
		return -EINVAL;
	file = fget(fd);
	if (!file)
		return -EBADF;
	if (file->f_mode & FMODE_PREAD)
		ret = vfs_read(file, buf, count, &pos);
	fput(file);
	return ret;
}

__frame ssize_t ksys_pwrite64(unsigned int fd, const char *buf, size_t count, loff_t pos)
{
	struct file *file;
	ssize_t ret = -ESPIPE;

	if (pos < 0)
		return -EINVAL;
	file = fget(fd);
	if (!file)
		return -EBADF;
	if (file->f_mode & FMODE_PWRITE)
		ret = vfs_write(file, buf, count, &pos);
	fput(file);
	return ret;
}

loff_t vfs_setpos(struct file *file, loff_t offset, loff_t maxsize)
{
	if (offset < 0 || offset > maxsize)
		return -EINVAL;
	file->f_pos = offset;
	return offset;
}

/* A file without holes: its data ends where it ends. */
loff_t generic_file_llseek(struct file *file, loff_t offset, int whence)
{
	loff_t eof = file->f_inode->i_size;

	switch (whence) {
	case SEEK_END:
		offset = (loff_t)((u64)offset + (u64)eof);
		break;
	case SEEK_CUR:
		if (!offset)
			return file->f_pos;
		offset = (loff_t)((u64)file->f_pos + (u64)offset);
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		if ((u64)offset >= (u64)eof)
			return -ENXIO;
		if (whence == SEEK_HOLE)
			offset = eof;
		break;
	}
	return vfs_setpos(file, offset, MAX_LFS_FILESIZE);
}

__frame loff_t ksys_lseek(unsigned int fd, loff_t offset, unsigned int whence)
{
	struct fd f = fdget_pos(fd);
	loff_t retval = -EINVAL;

	if (!f.file)
		return -EBADF;
	if (whence <= SEEK_MAX)
		retval = f.file->f_mode & FMODE_LSEEK ? f.file->f_op->llseek(f.file, offset, (int)whence) : -ESPIPE;
	fdput_pos(f);
	return retval;
}
