// SPDX-License-Identifier: GPL-2.0-only
/* As task_vma.bpf.c, but drops the iterator's lock before it copies: for the series KF_FORBID_FAULT v5. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"

#define MAX_VMAS 1000

__u64 target;		/* copy from the VMA that holds this address, from its page */
__u32 vmas_seen, copied, errors;
__u64 starts[MAX_VMAS], ends[MAX_VMAS];

SEC("syscall")
int release_then_sleep(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;
	char buf[64];

	bpf_for_each(task_vma, vma, task, 0) {
		__u32 seen = vmas_seen;
		bool wanted = target >= vma->vm_start && target < vma->vm_end;

		if (seen >= MAX_VMAS)
			break;
		starts[seen] = vma->vm_start;
		ends[seen] = vma->vm_end;
		vmas_seen = seen + 1;
		if (!wanted)
			continue;
		bpf_iter_task_vma_release(&___it);
		if (bpf_copy_from_user(buf, sizeof(buf), (void *)target))
			errors++;
		else
			copied++;
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
