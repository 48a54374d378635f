/* SPDX-License-Identifier: GPL-2.0-only */
/* Another task's memory. Mirrors the declarations of include/linux/mm.h. */
#ifndef _LINUX_GUP_H
#define _LINUX_GUP_H

#include <linux/mm_types.h>

int access_process_vm(struct task_struct *tsk, unsigned long addr, void *buf, int len, unsigned int gup_flags);
int copy_remote_vm_str(struct task_struct *tsk, unsigned long addr, void *buf, int len, unsigned int gup_flags);

#endif
