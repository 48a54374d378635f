// SPDX-License-Identifier: GPL-2.0-only
/*
 * /proc/sysrq-trigger: dumps on request. Mirrors drivers/tty/sysrq.c for the keys d (locks held) and w (blocked tasks);
 * others print nothing. Only the first byte of a write counts.
 */
#include <linux/fs.h>
#include <linux/rcupdate.h>
#include <linux/uaccess.h>

/* kcalls */
void sysrq_action(char key);	/* `sysrq: ` and what follows it */
void show_state_filter(unsigned int state_filter);

__frame void __handle_sysrq(char key)
{
	rcu_read_lock();
	sysrq_action(key);
	if (key == 'w')
		show_state_filter(TASK_UNINTERRUPTIBLE);
	else if (key == 'd')
		debug_show_all_locks();
	rcu_read_unlock();
}

__frame ssize_t write_sysrq_trigger(struct file *file, const char *buf, size_t count, loff_t *pos)
{
	char key;

	(void)file;
	(void)pos;
	if (count) {
		if (copy_from_user(&key, buf, 1))
			return -EFAULT;
		__handle_sysrq(key);
	}
	return (ssize_t)count;
}

const struct file_operations sysrq_trigger_proc_ops = { .write = write_sysrq_trigger };
__used struct file sysrq_trigger_file = {
	.f_op = &sysrq_trigger_proc_ops, .sb = &proc_sb, .f_mode = FMODE_WRITE | FMODE_CAN_WRITE,
};
