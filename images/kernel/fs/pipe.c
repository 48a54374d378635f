// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pipe whose reader is outside and always there: what descriptors 1 and 2 of a program lead to. Mirrors fs/pipe.c,
 * writing only; it is never full.
 */
#include <linux/fs.h>
#include <linux/uaccess.h>

/* kcall: the reader takes `count` bytes */
void pipe_push(const char *buf, size_t count);

static __frame ssize_t anon_pipe_write(struct file *file, const char *from, size_t count, loff_t *pos)
{
	char buf[128];
	size_t done = 0;

	(void)file;
	(void)pos;
	while (done < count) {
		size_t chars = min(count - done, sizeof(buf));
		size_t left = copy_from_user(buf, from + done, chars);

		if (chars - left)
			pipe_push(buf, chars - left);
		done += chars - left;
		if (left)
			return done ? (ssize_t)done : -EFAULT;
	}
	return (ssize_t)done;
}

const struct file_operations pipeanon_fops = { .write = anon_pipe_write };
__used struct file output_file = { .f_op = &pipeanon_fops, .f_mode = FMODE_WRITE | FMODE_CAN_WRITE };
