// SPDX-License-Identifier: GPL-2.0-only
/* prctl(2), as far as naming a thread goes. Mirrors kernel/sys.c. */
#include <linux/syscalls.h>

#define PR_SET_NAME 15

/* kcall of fs/exec.c */
void __set_task_comm(struct task_struct *tsk, const char *buf, bool exec);

__frame long ksys_prctl(int option, unsigned long arg2)
{
	char comm[TASK_COMM_LEN];

	if (option != PR_SET_NAME)
		return -EINVAL;
	/* strncpy_from_user(): the name may end before what can be read does */
	for (size_t i = 0; i < sizeof(comm); i++) {
		comm[i] = 0;
		if (i == sizeof(comm) - 1)
			break;
		if (copy_from_user(&comm[i], (const char *)arg2 + i, 1))
			return -EFAULT;
		if (!comm[i])
			break;
	}
	__set_task_comm(current, comm, false);
	return 0;
}
