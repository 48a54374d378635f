// SPDX-License-Identifier: GPL-2.0-only
/* Two iterators over one mm at the same time: both read its lock, or copy from it. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"

__u32 outer_seen, inner_seen, different;

SEC("syscall")
int nested_iterators(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *outer, *inner;

	bpf_for_each(task_vma, outer, task, 0) {
		__u64 start = outer->vm_start;

		outer_seen++;
		/* the inner one begins where the outer one stands */
		bpf_for_each(task_vma, inner, task, start) {
			inner_seen++;
			different += inner->vm_start != start;
			break;
		}
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
