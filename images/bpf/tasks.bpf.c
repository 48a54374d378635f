// SPDX-License-Identifier: GPL-2.0-only
/* Programs about tasks other than the current one: iterators over them, references to them, their memory. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "bpf_experimental.h"
#include "bpf_misc.h"

#define MAX_SEEN 64

__u64 where;		/* a user address */
__s32 pid;
__u32 flags, count, vmas, missing;
__s32 pids[MAX_SEEN];
long result;
char copied[8], comm[16];

/* all processes, all threads, or the threads of the current process, by `flags` */
SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int walk_tasks(void *ctx)
{
	struct task_struct *current = bpf_get_current_task_btf(), *task;

	bpf_rcu_read_lock();
	bpf_for_each(task, task, current, flags) {
		__u32 seen = count;

		if (seen >= MAX_SEEN)
			break;
		pids[seen] = task->pid;
		count = seen + 1;
	}
	bpf_rcu_read_unlock();
	return 0;
}

/* the VMAs of every process: an iterator in an iterator */
SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int walk_all_vmas(void *ctx)
{
	struct vm_area_struct *vma;
	struct task_struct *task;

	bpf_rcu_read_lock();
	bpf_for_each(task, task, NULL, BPF_TASK_ITER_ALL_PROCS) {
		count++;
		bpf_for_each(task_vma, vma, task, 0)
			vmas++;
	}
	bpf_rcu_read_unlock();
	return 0;
}

/* another process, by its pid: who it is, and what is at `where` in its memory */
SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int read_other(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(pid);

	if (!task) {
		missing++;
		return 0;
	}
	bpf_probe_read_kernel_str(comm, sizeof(comm), task->comm);
	result = bpf_copy_from_user_task(copied, sizeof(copied), (void *)where, task, 0);
	bpf_task_release(task);
	return 0;
}

SEC("?fentry.s/" SYS_PREFIX "sys_getpgid")
int hold_parent(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf(), *parent;

	bpf_rcu_read_lock();
	parent = task->real_parent;
	if (parent)
		parent = bpf_task_acquire(parent);
	bpf_rcu_read_unlock();
	if (!parent) {
		missing++;
		return 0;
	}
	pids[0] = parent->pid;
	bpf_task_release(parent);
	return 0;
}

char _license[] SEC("license") = "GPL";
