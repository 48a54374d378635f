/* SPDX-License-Identifier: GPL-2.0-only */
/* Doubly linked lists. Mirrors include/linux/list.h by name. */
#ifndef _LINUX_LIST_H
#define _LINUX_LIST_H

#include <linux/rwsem_types.h>

static __always_inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list->prev = list;
}

static __always_inline bool list_empty(const struct list_head *head)
{
	return READ_ONCE(head->next) == head;
}

static __always_inline bool list_is_singular(const struct list_head *head)
{
	return !list_empty(head) && head->next == head->prev;
}

static __always_inline void list_add_tail(struct list_head *entry, struct list_head *head)
{
	entry->prev = head->prev;
	entry->next = head;
	head->prev->next = entry;
	head->prev = entry;
}

static __always_inline void list_del(struct list_head *entry)
{
	entry->next->prev = entry->prev;
	entry->prev->next = entry->next;
}

static __always_inline void list_del_init(struct list_head *entry)
{
	list_del(entry);
	INIT_LIST_HEAD(entry);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)

#endif
