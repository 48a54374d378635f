/* SPDX-License-Identifier: GPL-2.0-only */
/* Files, as far as write(2) of a debugfs file needs them. Mirrors include/linux/fs.h. */
#ifndef _LINUX_FS_H
#define _LINUX_FS_H

#include <linux/rwsem_types.h>

struct file;

struct file_operations {
	ssize_t (*write)(struct file *file, const char *buf, size_t count, loff_t *pos);
	ssize_t (*real_write)(struct file *file, const char *buf, size_t count, loff_t *pos);
};

/* Of a mounted file system only what lockdep sees of it: writers keep it from being frozen. */
struct super_block { struct lockdep_map s_writers; };
extern struct super_block debugfs_sb, proc_sb;

struct file {
	const struct file_operations *f_op;
	struct super_block *sb;	/* NULL: one that nobody freezes */
	void *private_data;
};

ssize_t full_proxy_write(struct file *file, const char *buf, size_t count, loff_t *pos);

#endif
