/* SPDX-License-Identifier: GPL-2.0-only */
/* The task. Mirrors include/linux/sched.h; the fields are those that something here reads. */
#ifndef _LINUX_SCHED_H
#define _LINUX_SCHED_H

#include <linux/mm_types.h>

#define TASK_COMM_LEN 16
#define PF_EXITING 0x00000004
#define PF_KTHREAD 0x00200000

/* task_struct.__state */
#define TASK_RUNNING 0x0
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_DEAD 0x80
#define TASK_WAKEKILL 0x100
#define TASK_NOLOAD 0x400
#define TASK_KILLABLE (TASK_WAKEKILL | TASK_UNINTERRUPTIBLE)
#define TASK_NORMAL (TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE)

#include <asm/processor.h>

struct wake_q_node { struct wake_q_node *next; };
struct bpf_run_ctx;

/* What restart_syscall(2) goes on with. */
enum restart_fn { RESTART_NONE, RESTART_FUTEX_WAIT };
struct restart_block {
	enum restart_fn fn;
	u32 val;
	u32 *uaddr;
	u64 time;	/* virtual ns at which the wait ends */
};

/* When interrupts were last enabled and disabled, for reports of lockdep; include/linux/irqflags.h */
struct irqtrace_events {
	unsigned int irq_events;
	unsigned int hardirq_enable_event;
	unsigned int hardirq_disable_event;
	bool hardirqs_off;	/* as far as was traced */
	unsigned long hardirq_enable_ip;
	unsigned long hardirq_disable_ip;
};

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	void *stack;
	int on_cpu;	/* it is current on a CPU, whether that CPU moves or not */
	int pagefault_disabled;
	unsigned int preempt_count;
	int rcu_read_lock_nesting;
	unsigned long thread_info_flags;	/* struct thread_info: flags */
	int trc_reader_nesting;	/* read sections of tasks-trace RCU, which may sleep */
	struct bpf_run_ctx *bpf_ctx;
	pid_t pid;
	pid_t tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct mm_struct *active_mm;
	unsigned int uid;
	unsigned int cpu;
	int prio;
	bool sigkill_pending;
	bool group_exit;	/* it ends its whole process */
	bool sched_rt;	/* rt_or_dl_task() */
	u64 nvcsw;	/* switches, which the hung-task detector compares */
	unsigned long blocker;	/* the lock it waits for, type in the low bits (linux/hung_task.h) */
	struct wake_q_node wake_q;
	unsigned int lockdep_depth;	/* how many locks it holds */
	unsigned int hardirq_context;	/* it runs a hard interrupt's handler */
	bool irq_config;	/* one that would be threaded with PREEMPT_RT */
	struct irqtrace_events irqtrace;
	bool rcu_read_unlock_special;	/* a grace period waits for the end of its read section */
	bool restore_sigmask;	/* saved_sigmask is due at the next way to user mode */
	u64 blocked;	/* sigset_t */
	u64 saved_sigmask;
	unsigned long sas_ss_sp;
	size_t sas_ss_size;
	unsigned int sas_ss_flags;
	struct restart_block restart_block;
	struct thread_struct thread;
	char comm[TASK_COMM_LEN];
	atomic_t rcu_users;	/* until 0 it is there: one for its pid, and those that programs hold */
};

#define TIF_NOTIFY_RESUME 0
#define TIF_SIGPENDING 1
#define TIF_NEED_RESCHED 2

#include <asm/current.h>

/* include/linux/uaccess.h:faulthandler_disabled() */
static __always_inline bool faulthandler_disabled(void)
{
	return current->pagefault_disabled || current->preempt_count;
}

#define __set_current_state(s) WRITE_ONCE(current->__state, (s))
#define set_current_state(s) \
	do { WRITE_ONCE(current->__state, (s)); barrier(); } while (0)
#define preempt_disable() \
	do { current->preempt_count++; barrier(); } while (0)
#define preempt_enable() \
	do { barrier(); current->preempt_count--; } while (0)

static __always_inline bool signal_pending_state(unsigned int state, struct task_struct *p)
{
	if (state & TASK_INTERRUPTIBLE && READ_ONCE(p->thread_info_flags) & 1UL << TIF_SIGPENDING)
		return true;
	return state & (TASK_INTERRUPTIBLE | TASK_WAKEKILL) && READ_ONCE(p->sigkill_pending);
}

/* kernel/sched/core.c */
void schedule(void);
void schedule_preempt_disabled(void);
int wake_up_process(struct task_struct *p);

/* kcalls: where another task may be chosen */
void cpu_relax(void);	/* once around a loop that waits for another CPU */
void sched_point(void);	/* something that others wait for has changed */
u64 sched_clock(void);	/* virtual nanoseconds */

/* kernel/exit.c */
__noreturn void do_group_exit(int exit_code);

/* kcalls */
bool fatal_signal_pending(struct task_struct *task);

/* What differs between the kernels that one image stands for; written by boot from the profile. */
struct kernel_features {
	bool arena_scratch;
	bool arena_scratch_replace;
	u32 stream_error_limit;	/* 0: none */
	u32 task_vma;		/* how bpf_iter_task_vma keeps a VMA stable: enum task_vma_mode */
	bool prove_locking;	/* CONFIG_PROVE_LOCKING: lockdep is told of every lock */
};

enum task_vma_mode { TASK_VMA_MMAP_LOCK, TASK_VMA_SPLIT, TASK_VMA_SNAPSHOT };
extern struct kernel_features kernel_features;

#endif
