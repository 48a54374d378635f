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
