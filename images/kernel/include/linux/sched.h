/* SPDX-License-Identifier: GPL-2.0-only */
/* The task. Mirrors include/linux/sched.h; the fields are those that something here reads. */
#ifndef _LINUX_SCHED_H
#define _LINUX_SCHED_H

#include <linux/mm_types.h>

#define TASK_COMM_LEN 16
#define PF_KTHREAD 0x00200000

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	void *stack;
	int on_cpu;
	int pagefault_disabled;
	unsigned int preempt_count;
	int rcu_read_lock_nesting;
	pid_t pid;
	pid_t tgid;
	struct mm_struct *mm;
	struct mm_struct *active_mm;
	unsigned int uid;
	char comm[TASK_COMM_LEN];
};

#include <asm/current.h>

/* include/linux/uaccess.h:faulthandler_disabled() */
static __always_inline bool faulthandler_disabled(void)
{
	return current->pagefault_disabled || current->preempt_count;
}

/* kcalls */
void force_sig_fault(int sig, int code, unsigned long addr);
__noreturn void do_group_exit(int exit_code);
bool fatal_signal_pending(struct task_struct *task);

/* What differs between the kernels that one image stands for; written by boot from the profile. */
struct kernel_features {
	bool arena_scratch;
	bool arena_scratch_replace;
	u32 stream_error_limit;	/* 0: none */
};
extern struct kernel_features kernel_features;

#endif
