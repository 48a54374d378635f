/* SPDX-License-Identifier: GPL-2.0-only */
/* The lock of an address space. Mirrors include/linux/mmap_lock.h. */
#ifndef _LINUX_MMAP_LOCK_H
#define _LINUX_MMAP_LOCK_H

#include <linux/sched.h>

void mmap_read_lock(struct mm_struct *mm);
int mmap_write_lock_killable(struct mm_struct *mm);
void mmap_write_unlock(struct mm_struct *mm);

#endif
