// SPDX-License-Identifier: GPL-2.0-only
/*
 * The open-coded iterators task_vma and task, bpf_find_vma(). Mirrors kernel/bpf/task_iter.c; kernel_features.task_vma says of which kernel:
 *
 *   TASK_VMA_MMAP_LOCK   v7.0: mmap_lock is held for reading from _new() to _destroy()
 *   TASK_VMA_SPLIT       series 20260226161500.775715-1: taken in _next() where it is not held, dropped by _release()
 *   TASK_VMA_SNAPSHOT    v7.1 (4cbee026db54): each VMA is copied under its own lock, and nothing is held in between
 *
 * Left out: references on tasks and files (nothing here goes away under a running program), mmput() put off to a work
 * queue, kernels without per-VMA locks.
 */
#include <linux/bpf.h>
#include <linux/mmap_lock.h>
#include <linux/rcupdate.h>
#include <linux/syscalls.h>

struct bpf_iter_task_vma {
	u64 __opaque[1];
} __aligned(8);

struct bpf_iter_task_vma_kern_data {
	struct task_struct *task;
	struct mm_struct *mm;
	struct vm_area_struct snapshot;
	u64 next_addr;
	bool locked;
};

struct bpf_iter_task_vma_kern {
	struct bpf_iter_task_vma_kern_data *data;
} __aligned(8);

__bpf_kfunc int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task, u64 addr)
{
	struct bpf_iter_task_vma_kern *kit = (void *)it;
	struct bpf_iter_task_vma_kern_data *data;
	struct mm_struct *mm = task->mm;

	kit->data = NULL;
	if (!mm || task->flags & PF_KTHREAD)
		return -ENOENT;
	data = kmalloc(sizeof(*data), GFP_KERNEL | __GFP_ZERO);
	if (!data)
		return -ENOMEM;
	if (kernel_features.task_vma == TASK_VMA_MMAP_LOCK) {
		if (!mmap_read_trylock(mm)) {
			kfree(data);
			return -EBUSY;
		}
		data->locked = true;
	}
	data->task = task;
	data->mm = mm;
	data->next_addr = addr;
	atomic_fetch_add(1, &mm->mm_users);
	kit->data = data;
	return 0;
}

/* With mmap_lock held. */
static struct vm_area_struct *next_locked(struct bpf_iter_task_vma_kern_data *data)
{
	struct vm_area_struct *vma = find_vma(data->mm, data->next_addr);

	if (vma)
		data->next_addr = vma->vm_end;
	return vma;
}

/* The next VMA, locked for reading. One that is being changed is passed over, not waited for. */
static struct vm_area_struct *lock_next(struct bpf_iter_task_vma_kern_data *data)
{
	struct vm_area_struct *vma;
	unsigned long start, end;

	for (;;) {
		rcu_read_lock();
		vma = find_vma(data->mm, data->next_addr);
		if (!vma) {
			rcu_read_unlock();
			return NULL;
		}
		start = vma->vm_start;
		end = vma->vm_end;
		rcu_read_unlock();
		vma = lock_vma_under_rcu(data->mm, start);
		if (!vma) {
			data->next_addr = end > data->next_addr ? end : data->next_addr + PAGE_SIZE;
			continue;
		}
		if (vma->vm_end > data->next_addr)
			return vma;
		data->next_addr += PAGE_SIZE;
		vma_end_read(vma);
	}
}

static struct vm_area_struct *next_snapshot(struct bpf_iter_task_vma_kern_data *data)
{
	struct vm_area_struct *vma = lock_next(data);

	if (!vma)
		return NULL;
	memcpy(&data->snapshot, vma, sizeof(*vma));
	data->next_addr = vma->vm_end;
	vma_end_read(vma);
	return &data->snapshot;
}

__bpf_kfunc struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it)
{
	struct bpf_iter_task_vma_kern_data *data = ((struct bpf_iter_task_vma_kern *)it)->data;

	if (!data)
		return NULL;
	if (kernel_features.task_vma == TASK_VMA_SNAPSHOT)
		return next_snapshot(data);
	if (!data->locked) {
		if (!mmap_read_trylock(data->mm))
			return NULL;
		data->locked = true;
	}
	return next_locked(data);
}

static void unlock(struct bpf_iter_task_vma_kern_data *data)
{
	if (data->locked)
		mmap_read_unlock(data->mm);
	data->locked = false;
}

/* Only in the series: the position stays, the lock goes. */
__bpf_kfunc void bpf_iter_task_vma_release(struct bpf_iter_task_vma *it__iter)
{
	struct bpf_iter_task_vma_kern_data *data = ((struct bpf_iter_task_vma_kern *)it__iter)->data;

	if (data)
		unlock(data);
}

__bpf_kfunc void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it)
{
	struct bpf_iter_task_vma_kern *kit = (void *)it;
	struct bpf_iter_task_vma_kern_data *data = kit->data;

	if (!data)
		return;
	unlock(data);
	atomic_fetch_add(-1, &data->mm->mm_users);
	kfree(data);
	kit->data = NULL;
}

/*
 * The callback runs with mmap_lock held for reading. Left out: with interrupts off Linux gives the lock up from an
 * irq_work, and refuses while that is busy; here it gives it up at once.
 */
__used noinline long bpf_find_vma(struct task_struct *task, u64 start, bpf_callback_t callback_fn, void *callback_ctx,
				  u64 flags)
{
	struct vm_area_struct *vma;
	struct mm_struct *mm;
	long ret = -ENOENT;

	if (flags)
		return -EINVAL;
	if (!task || !task->mm)
		return -ENOENT;
	mm = task->mm;
	if (!mmap_read_trylock(mm))
		return -EBUSY;
	vma = find_vma(mm, start);
	if (vma && vma->vm_start <= start) {
		callback_fn((u64)(uintptr_t)task, (u64)(uintptr_t)vma, (u64)(uintptr_t)callback_ctx, 0, 0);
		ret = 0;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* kcalls; `next_task` ends in init_task, CPU 0's idle task, with which the circle begins */
struct task_struct *idle_task(int cpu);
struct task_struct *next_task(struct task_struct *p);
struct task_struct *__next_thread(struct task_struct *p);

enum {
	BPF_TASK_ITER_ALL_PROCS,
	BPF_TASK_ITER_ALL_THREADS,
	BPF_TASK_ITER_PROC_THREADS,
};

struct bpf_iter_task {
	u64 __opaque[3];
} __aligned(8);

struct bpf_iter_task_kern {
	struct task_struct *task;
	struct task_struct *pos;
	unsigned int flags;
} __aligned(8);

__bpf_kfunc int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable, unsigned int flags)
{
	struct bpf_iter_task_kern *kit = (void *)it;

	kit->pos = NULL;
	if (flags > BPF_TASK_ITER_PROC_THREADS || (flags == BPF_TASK_ITER_PROC_THREADS && !task__nullable))
		return -EINVAL;
	kit->task = kit->pos = flags == BPF_TASK_ITER_PROC_THREADS ? task__nullable : idle_task(0);
	kit->flags = flags;
	return 0;
}

__bpf_kfunc struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it)
{
	struct bpf_iter_task_kern *kit = (void *)it;
	struct task_struct *pos = kit->pos;

	if (!pos)
		return NULL;
	if (kit->flags != BPF_TASK_ITER_ALL_PROCS) {
		kit->pos = __next_thread(pos);
		if (kit->pos || kit->flags == BPF_TASK_ITER_PROC_THREADS)
			return pos;
	}
	kit->task = next_task(kit->task);
	kit->pos = kit->task == idle_task(0) ? NULL : kit->task;
	return pos;
}

__bpf_kfunc void bpf_iter_task_destroy(struct bpf_iter_task *it)
{
	(void)it;
}
