/* SPDX-License-Identifier: GPL-2.0-only */
/* Files, as far as write(2) of a debugfs file needs them. Mirrors include/linux/fs.h. */
#ifndef _LINUX_FS_H
#define _LINUX_FS_H

#include <linux/types.h>

struct file;

struct file_operations {
	ssize_t (*write)(struct file *file, const char *buf, size_t count, loff_t *pos);
	ssize_t (*real_write)(struct file *file, const char *buf, size_t count, loff_t *pos);
};

struct file {
	const struct file_operations *f_op;
	void *private_data;
};

ssize_t full_proxy_write(struct file *file, const char *buf, size_t count, loff_t *pos);

#endif
