// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the series KF_FORBID_FAULT v5 (20260226161500.775715-1) runs over the task_vma iterator: the ranges of a task's
 * VMAs, a copy from each after bpf_iter_task_vma_release(), two iterators over one mm.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"
#include "bpf_misc.h"

#define MAX_VMAS 1000

struct range {
	__u64 vm_start;
	__u64 vm_end;
};

__s32 target_pid;
__u32 vmas_seen, release_vmas_seen, nested_vmas_seen;
struct range ranges[MAX_VMAS];

static bool is_target(struct task_struct *task)
{
	return task->pid == target_pid;
}

SEC("?raw_tp/sys_enter")
int iter_task_vma_for_each(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	__u32 seen = 0;

	if (!is_target(task) || vmas_seen)
		return 0;
	bpf_for_each(task_vma, vma, task, 0) {
		if (seen >= MAX_VMAS)
			break;
		barrier_var(seen);	/* else clang counts in a pointer, which no verifier can follow */
		ranges[seen].vm_start = vma->vm_start;
		ranges[seen].vm_end = vma->vm_end;
		seen++;
	}
	vmas_seen = seen;
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int iter_task_vma_release_and_copy(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	char byte;

	if (!is_target(task))
		return 0;
	bpf_for_each(task_vma, vma, task, 0) {
		__u64 start = vma->vm_start;

		bpf_iter_task_vma_release(&___it);
		/* what cannot be read, as a guard page, is counted too */
		bpf_copy_from_user(&byte, sizeof(byte), (void *)start);
		release_vmas_seen++;
	}
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int iter_task_vma_nested(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *outer, *inner;

	if (!is_target(task))
		return 0;
	bpf_for_each(task_vma, outer, task, 0) {
		__u64 start = outer->vm_start;

		bpf_for_each(task_vma, inner, task, start) {
			nested_vmas_seen += inner->vm_start == start;
			break;
		}
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
