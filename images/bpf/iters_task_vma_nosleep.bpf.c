// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the verifier of the series KF_FORBID_FAULT v5 (20260226161500.775715-1) makes of sleeping within a task_vma
 * iteration: the tags are the verdicts.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"
#include "bpf_misc.h"

#define IN_NOFAULT "sleepable helper bpf_copy_from_user#{{[0-9]+}} in nofault region"

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
__failure __msg(IN_NOFAULT)
int nosleep_iter_sleep_without_release(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	char byte;

	bpf_for_each(task_vma, vma, task, 0) {
		bpf_copy_from_user(&byte, sizeof(byte), (void *)vma->vm_start);
		break;
	}
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
__failure __msg("invalid mem access 'scalar'")
int nosleep_iter_vma_access_after_release(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	__u64 end = 0;

	bpf_for_each(task_vma, vma, task, 0) {
		bpf_iter_task_vma_release(&___it);
		end = vma->vm_start;
		break;
	}
	barrier_var(end);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
__success
int nosleep_iter_release_then_sleep(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	char byte;

	bpf_for_each(task_vma, vma, task, 0) {
		__u64 start = vma->vm_start;

		bpf_iter_task_vma_release(&___it);
		bpf_copy_from_user(&byte, sizeof(byte), (void *)start);
		break;
	}
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
__failure __msg("no acquired reference to release")
int nosleep_iter_double_release(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;

	bpf_for_each(task_vma, vma, task, 0) {
		bpf_iter_task_vma_release(&___it);
		bpf_iter_task_vma_release(&___it);
		break;
	}
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
__failure __msg("no acquired reference to release")
int nosleep_iter_release_without_acquire(const void *ctx)
{
	struct bpf_iter_task_vma it;

	bpf_iter_task_vma_new(&it, bpf_get_current_task_btf(), 0);
	bpf_iter_task_vma_release(&it);
	bpf_iter_task_vma_destroy(&it);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
__failure __msg(IN_NOFAULT)
int nosleep_iter_nested_release_inner(const void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *outer, *inner;
	char byte;

	bpf_for_each(task_vma, outer, task, 0) {
		bpf_for_each(task_vma, inner, task, 0) {
			__u64 start = inner->vm_start;

			bpf_iter_task_vma_release(&___it);
			/* the outer iterator's lock is still held */
			bpf_copy_from_user(&byte, sizeof(byte), (void *)start);
			break;
		}
		break;
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
