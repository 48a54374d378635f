/* SPDX-License-Identifier: GPL-2.0-only */
/* Loops that the kernel ends, numeric iterators. */
#ifndef __BPF_EXPERIMENTAL__
#define __BPF_EXPERIMENTAL__

#include <bpf/bpf_helpers.h>

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;

extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task, __u64 addr) __weak __ksym;
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) __weak __ksym;
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) __weak __ksym;
/* only in the series KF_FORBID_FAULT v5: a kernel without it refuses programs that call this */
extern void bpf_iter_task_vma_release(struct bpf_iter_task_vma *it__iter) __weak __ksym;
extern void bpf_local_irq_save(unsigned long *flags__irq_flag) __weak __ksym;
extern void bpf_local_irq_restore(unsigned long *flags__irq_flag) __weak __ksym;
extern int bpf_copy_from_user_str(void *dst, __u32 dst__sz, const void *unsafe_ptr__ign, __u64 flags) __weak __ksym;
extern int bpf_copy_from_user_task_str(void *dst, __u32 dst__sz, const void *unsafe_ptr__ign, struct task_struct *tsk,
				       __u64 flags) __weak __ksym;

extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable, unsigned int flags)
	__weak __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __weak __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __weak __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __weak __ksym;
extern void bpf_task_release(struct task_struct *p) __weak __ksym;
extern struct task_struct *bpf_task_from_pid(__s32 pid) __weak __ksym;
extern struct task_struct *bpf_task_from_vpid(__s32 vpid) __weak __ksym;

/* Loops over what an open-coded iterator gives; the iterator is called ___it and goes away with its scope. */
#define bpf_for_each(type, cur, args...)						\
	for (struct bpf_iter_##type ___it __attribute__((aligned(8),			\
							 cleanup(bpf_iter_##type##_destroy))), \
	     *___began __attribute__((unused)) = (bpf_iter_##type##_new(&___it, args), &___it); \
	     ((cur) = bpf_iter_##type##_next(&___it)); )

/* true until the loop's budget is used up (may_goto) */
#define can_loop								\
({										\
	__label__ l_break, l_continue;						\
	bool ret = true;							\
										\
	__asm__ volatile goto("may_goto %l[l_break]" :::: l_break);		\
	goto l_continue;							\
l_break:									\
	ret = false;								\
l_continue:;									\
	ret;									\
})

#define cond_break								\
({										\
	__label__ l_break, l_continue;						\
										\
	__asm__ volatile goto("may_goto %l[l_break]" :::: l_break);		\
	goto l_continue;							\
l_break:									\
	break;									\
l_continue:;									\
})

#endif
