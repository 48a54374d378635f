// SPDX-License-Identifier: GPL-2.0-only
/* Functions that helpers call back, and helpers that read the memory of a task. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"
#include "bpf_misc.h"

#define MAX_COPY 8192

__u64 where;		/* a user address */
__u32 length;		/* bytes to copy, at most MAX_COPY */
__u32 rounds, stop_at = -1U;
long result, copy_result;
__u64 sum, vm_start, vm_end, found_at;
char copied[MAX_COPY], text[16];

struct loop_context {
	__u64 sum;
	__u32 inner;
};

static long add(__u64 index, struct loop_context *ctx)
{
	ctx->sum += index + 1;
	return index == stop_at;
}

static long add_many(__u64 index, struct loop_context *ctx)
{
	bpf_loop(ctx->inner, add, ctx, 0);
	return 0;
}

SEC("syscall")
int loop(void *ctx)
{
	struct loop_context context = {};

	result = bpf_loop(rounds, add, &context, 0);
	sum = context.sum;
	return 0;
}

SEC("syscall")
int loop_nested(void *ctx)
{
	struct loop_context context = { .inner = rounds };

	result = bpf_loop(3, add_many, &context, 0);
	sum = context.sum;
	return 0;
}

SEC("syscall")
int loop_flags(void *ctx)
{
	struct loop_context context = {};

	result = bpf_loop(1, add, &context, 1);
	return 0;
}

static long note_vma(struct task_struct *task, struct vm_area_struct *vma, __u64 *at)
{
	vm_start = vma->vm_start;
	vm_end = vma->vm_end;
	found_at = *at;
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int find(void *ctx)
{
	__u64 at = where;

	result = bpf_find_vma(bpf_get_current_task_btf(), at, note_vma, &at, 0);
	return 0;
}

/* with mmap_lock held: a fault there may need it once more */
static long copy_from_vma(struct task_struct *task, struct vm_area_struct *vma, void *ctx)
{
	vm_start = vma->vm_start;
	copy_result = bpf_copy_from_user(copied, 8, (void *)where);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int find_and_copy(void *ctx)
{
	result = bpf_find_vma(bpf_get_current_task_btf(), where, copy_from_vma, NULL, 0);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int copy_task(void *ctx)
{
	__u32 size = length;

	if (size > MAX_COPY)
		return 0;
	result = bpf_copy_from_user_task(copied, size, (void *)where, bpf_get_current_task_btf(), 0);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int copy_task_flags(void *ctx)
{
	result = bpf_copy_from_user_task(copied, 8, (void *)where, bpf_get_current_task_btf(), 1);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int copy_task_str(void *ctx)
{
	result = bpf_copy_from_user_task_str(text, sizeof(text), (void *)where, bpf_get_current_task_btf(), 0);
	return 0;
}

/* what a thread dump of a patch discussion would do: of each VMA the first bytes, by task */
SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int iter_copy_task(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct vm_area_struct *vma;

	bpf_for_each(task_vma, vma, task, 0) {
		if (vma->vm_start != where)
			continue;
		found_at = vma->vm_start;
		copy_result = bpf_copy_from_user_task(copied, 8, (void *)where, task, 0);
	}
	return 0;
}

SEC("?fentry/" SYS_PREFIX "sys_getpgid")
int probe(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	result = bpf_probe_read_user(copied, 8, (void *)where);
	copy_result = bpf_probe_read_user_str(copied + 8, 8, (void *)where);
	sum = bpf_probe_read_kernel_str(text, sizeof(text), task->comm);
	return 0;
}

char _license[] SEC("license") = "GPL";
