// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks the VMAs of the current task and reads one of them as if it were another task's: __access_remote_vm() takes
 * mmap_lock itself, whether the page is there or not. And bpf_find_vma(), whose callback copies with the lock held.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"

__u64 target;		/* copy from the VMA that holds this address, from its page */
__u32 vmas_seen, copied, errors;

static void count(long error)
{
	if (error)
		errors++;
	else
		copied++;
}

SEC("syscall")
int copy_task_in_iter(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	char buf[64];

	bpf_for_each(task_vma, vma, task, 0) {
		vmas_seen++;
		if (target >= vma->vm_start && target < vma->vm_end)
			count(bpf_copy_from_user_task(buf, sizeof(buf), (void *)target, task, 0));
	}
	return 0;
}

static long copy_in_callback(struct task_struct *task, struct vm_area_struct *vma, char *buf)
{
	vmas_seen++;
	count(bpf_copy_from_user(buf, 64, (void *)target));
	return 0;
}

SEC("syscall")
int sleep_in_find_vma(void *ctx)
{
	char buf[64] = {};

	bpf_find_vma(bpf_get_current_task_btf(), target, copy_in_callback, buf, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
