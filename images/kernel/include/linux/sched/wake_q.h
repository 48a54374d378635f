/* SPDX-License-Identifier: GPL-2.0-only */
/* Tasks to wake once a lock has been dropped. Mirrors include/linux/sched/wake_q.h and kernel/sched/core.c. */
#ifndef _LINUX_SCHED_WAKE_Q_H
#define _LINUX_SCHED_WAKE_Q_H

#include <linux/sched.h>

#define WAKE_Q_TAIL ((struct wake_q_node *)1)

struct wake_q_head {
	struct wake_q_node *first;
	struct wake_q_node **lastp;
};

static __always_inline void wake_q_init(struct wake_q_head *head)
{
	head->first = WAKE_Q_TAIL;
	head->lastp = &head->first;
}

/* A task that is in some queue already will be woken from there. */
static __always_inline void wake_q_add(struct wake_q_head *head, struct task_struct *task)
{
	struct wake_q_node *node = &task->wake_q, *none = NULL;

	if (!__atomic_compare_exchange_n(&node->next, &none, WAKE_Q_TAIL, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return;
	*head->lastp = node;
	head->lastp = &node->next;
}

/* Decision points: each wake_up_process(). */
static __always_inline void wake_up_q(struct wake_q_head *head)
{
	struct wake_q_node *node = head->first;

	while (node != WAKE_Q_TAIL) {
		struct task_struct *task = container_of(node, struct task_struct, wake_q);

		node = node->next;
		WRITE_ONCE(task->wake_q.next, NULL);
		wake_up_process(task);
	}
}

#endif
