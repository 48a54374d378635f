/* SPDX-License-Identifier: GPL-2.0-only */
/* Files: inodes, open files and what can be done with them. Mirrors include/linux/fs.h and uio.h. */
#ifndef _LINUX_FS_H
#define _LINUX_FS_H

#include <linux/mutex.h>
#include <linux/rwsem.h>

#define FMODE_READ 0x1
#define FMODE_WRITE 0x2
#define FMODE_LSEEK 0x4
#define FMODE_PREAD 0x8
#define FMODE_PWRITE 0x10
#define FMODE_CAN_READ 0x20000
#define FMODE_CAN_WRITE 0x40000

#define SEEK_SET 0
#define SEEK_CUR 1
#define SEEK_END 2
#define SEEK_DATA 3
#define SEEK_HOLE 4
#define SEEK_MAX SEEK_HOLE

#define LLONG_MAX ((loff_t)(~0ULL >> 1))
#define MAX_LFS_FILESIZE LLONG_MAX
#define MAX_RW_COUNT (0x7fffffffUL & PAGE_MASK)

struct file;

/* A transfer: the position in the file, and one piece of user memory (ITER_UBUF), which shrinks from its front. */
struct kiocb {
	struct file *ki_filp;
	loff_t ki_pos;
};

struct iov_iter {
	char *ubuf;
	size_t count;
};

struct file_operations {
	loff_t (*llseek)(struct file *file, loff_t offset, int whence);
	ssize_t (*write)(struct file *file, const char *buf, size_t count, loff_t *pos);
	ssize_t (*real_write)(struct file *file, const char *buf, size_t count, loff_t *pos);
	ssize_t (*read_iter)(struct kiocb *iocb, struct iov_iter *to);
	ssize_t (*write_iter)(struct kiocb *iocb, struct iov_iter *from);
};

/* Of a mounted file system only what lockdep sees of it: writers keep it from being frozen. */
struct super_block { struct lockdep_map s_writers; };
extern struct super_block debugfs_sb, proc_sb;

struct inode {
	struct rw_semaphore i_rwsem;
	loff_t i_size;	/* written outside, see i_size_write() of kernel_model/fs/file.py */
};

struct file {
	const struct file_operations *f_op;
	struct super_block *sb;	/* NULL: one that nobody freezes */
	void *private_data;
	unsigned int f_mode;
	loff_t f_pos;
	struct mutex f_pos_lock;
	struct inode *f_inode;	/* NULL for a file of a module */
};

static __always_inline void inode_lock(struct inode *inode)
{
	down_write(&inode->i_rwsem);
}

static __always_inline void inode_unlock(struct inode *inode)
{
	up_write(&inode->i_rwsem);
}

static __always_inline void file_start_write(struct file *file)
{
	if (file->sb)
		rwsem_acquire_read(&file->sb->s_writers, 0, 0, _THIS_IP_);
}

static __always_inline void file_end_write(struct file *file)
{
	if (file->sb)
		rwsem_release(&file->sb->s_writers, _THIS_IP_);
}

ssize_t full_proxy_write(struct file *file, const char *buf, size_t count, loff_t *pos);

/* mm/filemap.c, fs/read_write.c */
ssize_t filemap_read(struct kiocb *iocb, struct iov_iter *iter);
ssize_t __generic_file_write_iter(struct kiocb *iocb, struct iov_iter *from);
size_t copy_page_to_iter(void *addr, size_t offset, size_t bytes, struct iov_iter *i);
loff_t generic_file_llseek(struct file *file, loff_t offset, int whence);
loff_t vfs_setpos(struct file *file, loff_t offset, loff_t maxsize);

/* kcalls: descriptors of the current task; every struct file * that is got is a reference, which fput() gives back */
struct file *fget(unsigned int fd);
void fput(struct file *file);
struct file *file_close_fd(unsigned int fd);	/* NULL: there is none */
int get_unused_fd_flags(unsigned int flags);
void fd_install(unsigned int fd, struct file *file);	/* takes the reference */
void put_unused_fd(unsigned int fd);
bool file_needs_f_pos_lock(struct file *file);	/* others may move the position too */

/* kcalls: the page cache. A page is a reference, which put_page() gives back. */
struct page *pagecache_get_page(struct file *file, unsigned long index, bool create);	/* NULL: a hole; -errno */
void folio_write_end(struct file *file, loff_t pos, size_t copied);	/* the page is dirty, the file may have grown */
void notify_change(struct file *file, loff_t size);
loff_t mapping_seek_hole_data(struct file *file, loff_t start, loff_t end, int whence);
void *page_address(struct page *page);
void put_page(struct page *page);

#endif
