// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers and kfuncs that programs call by address. Mirrors kernel/bpf/helpers.c and kernel/trace/bpf_trace.c: those
 * with a body here must fault as kernel text does, the others are implemented outside and only named.
 */
#include <linux/kcall.h>
#include <linux/atomic.h>
#include <linux/gup.h>
#include <linux/syscalls.h>
#include <asm/irqflags.h>

u64 bpf_map_lookup_elem(struct bpf_map *map, const void *key);
long bpf_map_update_elem(struct bpf_map *map, const void *key, const void *value, u64 flags);
long bpf_map_delete_elem(struct bpf_map *map, const void *key);
u64 bpf_ktime_get_ns(void);
u32 bpf_get_prandom_u32(void);
u32 bpf_get_smp_processor_id(void);
u64 bpf_get_current_pid_tgid(void);
u64 bpf_get_current_uid_gid(void);
long bpf_get_current_comm(void *buf, u32 size);
long bpf_trace_printk(const char *fmt, u32 fmt_size, u64 a, u64 b, u64 c);
u64 bpf_get_current_task(void);
u64 bpf_jiffies64(void);
u64 bpf_ktime_get_boot_ns(void);
/* kcall: formats into a stream of the program; 0 or -errno */
int bpf_stream_push_vprintk(int stream_id, const char *fmt, const void *args, u32 len, struct bpf_prog_aux *aux);

__used noinline long bpf_probe_read_kernel(void *dst, u32 size, const void *unsafe_ptr)
{
	long ret = copy_from_kernel_nofault(dst, unsafe_ptr, size);

	if (ret < 0)
		memset(dst, 0, size);
	return ret;
}

/* What could not be read reads as zeroes. */
static __always_inline long or_zeroes(void *dst, u32 size, long ret)
{
	if (ret < 0)
		memset(dst, 0, size);
	return ret;
}

__used noinline long bpf_probe_read_kernel_str(void *dst, u32 size, const void *unsafe_ptr)
{
	return or_zeroes(dst, size, strncpy_from_kernel_nofault(dst, unsafe_ptr, size));
}

__used noinline long bpf_probe_read_user(void *dst, u32 size, const void *unsafe_ptr)
{
	return or_zeroes(dst, size, copy_from_user_nofault(dst, unsafe_ptr, size));
}

__used noinline long bpf_probe_read_user_str(void *dst, u32 size, const void *unsafe_ptr)
{
	return or_zeroes(dst, size, strncpy_from_user_nofault(dst, unsafe_ptr, size));
}

__used noinline long bpf_copy_from_user(void *dst, u32 size, const void *user_ptr)
{
	if (copy_from_user(dst, user_ptr, size)) {
		memset(dst, 0, size);
		return -EFAULT;
	}
	return 0;
}

__used noinline long bpf_copy_from_user_task(void *dst, u32 size, const void *user_ptr, struct task_struct *tsk,
					      u64 flags)
{
	if (flags)
		return -EINVAL;
	if (!size)
		return 0;
	if (access_process_vm(tsk, (unsigned long)user_ptr, dst, size, 0) == (int)size)
		return 0;
	memset(dst, 0, size);
	return -EFAULT;
}

__used noinline struct task_struct *bpf_get_current_task_btf(void)
{
	return current;
}

#define BPF_F_PAD_ZEROS 1ULL

/* The length with its NUL, which is always there; or -errno. */
__bpf_kfunc int bpf_copy_from_user_str(void *dst, u32 dst__sz, const void *unsafe_ptr__ign, u64 flags)
{
	char *to = dst;
	long len;

	if (flags & ~BPF_F_PAD_ZEROS)
		return -EINVAL;
	if (!dst__sz)
		return 0;
	len = strncpy_from_user(to, unsafe_ptr__ign, dst__sz - 1);
	if (flags & BPF_F_PAD_ZEROS) {
		u32 used = len < 0 ? 0 : (u32)len;

		memset(to + used, 0, dst__sz - used);
	} else if (len >= 0) {
		to[len] = '\0';
	}
	return len < 0 ? (int)len : (int)len + 1;
}

/* The same from the memory of a task, with its mmap_lock held. */
__bpf_kfunc int bpf_copy_from_user_task_str(void *dst, u32 dst__sz, const void *unsafe_ptr__ign,
					    struct task_struct *tsk, u64 flags)
{
	char *to = dst;
	int len;

	if (flags & ~BPF_F_PAD_ZEROS)
		return -EINVAL;
	if (!dst__sz)
		return 0;
	len = copy_remote_vm_str(tsk, (unsigned long)unsafe_ptr__ign, dst, dst__sz, 0);
	if (flags & BPF_F_PAD_ZEROS) {
		u32 used = len < 0 ? 0 : (u32)len;

		memset(to + used, 0, dst__sz - used);
	}
	return len < 0 ? len : len + 1;
}

/* kernel/bpf/stream.c; 6.18 knows the first name, 7.x the second. The verifier fills in the last argument. */
__bpf_kfunc int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str, const void *args, u32 len__sz,
					void *aux__prog)
{
	return bpf_stream_push_vprintk(stream_id, fmt__str, args, len__sz, aux__prog);
}

__bpf_kfunc int bpf_stream_vprintk(int stream_id, const char *fmt__str, const void *args, u32 len__sz,
				   void *aux__prog)
{
	return bpf_stream_push_vprintk(stream_id, fmt__str, args, len__sz, aux__prog);
}

__bpf_kfunc void bpf_rcu_read_lock(void)
{
	current->rcu_read_lock_nesting++;
}

__bpf_kfunc void bpf_rcu_read_unlock(void)
{
	current->rcu_read_lock_nesting--;
}

__bpf_kfunc void bpf_preempt_disable(void)
{
	current->preempt_count++;
}

__bpf_kfunc void bpf_preempt_enable(void)
{
	current->preempt_count--;
}

__bpf_kfunc void bpf_local_irq_save(unsigned long *flags__irq_flag)
{
	*flags__irq_flag = local_irq_save();
}

__bpf_kfunc void bpf_local_irq_restore(unsigned long *flags__irq_flag)
{
	local_irq_restore(*flags__irq_flag);
}

/* kcalls */
struct task_struct *find_task_by_pid_ns(pid_t nr);
void __put_task_struct(struct task_struct *tsk);

/* NULL for a task that is gone, of which only the memory is left */
__bpf_kfunc struct task_struct *bpf_task_acquire(struct task_struct *p)
{
	int users = atomic_read(&p->rcu_users);

	do {
		if (!users)
			return NULL;
	} while (!atomic_try_cmpxchg(&p->rcu_users, &users, users + 1));
	return p;
}

__bpf_kfunc void bpf_task_release(struct task_struct *p)
{
	if (!atomic_add_return(-1, &p->rcu_users))
		__put_task_struct(p);
}

__bpf_kfunc struct task_struct *bpf_task_from_pid(s32 pid)
{
	struct task_struct *p = find_task_by_pid_ns(pid);

	return p ? bpf_task_acquire(p) : NULL;
}

/* There is one pid namespace. */
__bpf_kfunc struct task_struct *bpf_task_from_vpid(s32 vpid)
{
	return bpf_task_from_pid(vpid);
}

struct bpf_iter_num {
	u64 __opaque[1];
} __aligned(8);

struct bpf_iter_num_kern {
	int cur;
	int end;
} __aligned(8);

#define BPF_MAX_LOOPS (8 * 1024 * 1024)

__bpf_kfunc int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end)
{
	struct bpf_iter_num_kern *s = (void *)it;

	s->cur = s->end = 0;
	if (start > end)
		return -EINVAL;
	if ((s64)end - (s64)start > BPF_MAX_LOOPS)
		return -E2BIG;
	/* _next() steps before it looks */
	s->cur = start - 1;
	s->end = end;
	return 0;
}

__bpf_kfunc int *bpf_iter_num_next(struct bpf_iter_num *it)
{
	struct bpf_iter_num_kern *s = (void *)it;

	if ((s64)(s->cur + 1) >= s->end) {
		s->cur = s->end = 0;
		return NULL;
	}
	s->cur++;
	return &s->cur;
}

__bpf_kfunc void bpf_iter_num_destroy(struct bpf_iter_num *it)
{
	struct bpf_iter_num_kern *s = (void *)it;

	s->cur = s->end = 0;
}

/* kernel/bpf/helpers.c:bpf_loop(): the callback is JITed text */
__used noinline long bpf_loop(u32 nr_loops, bpf_callback_t callback, void *ctx, u64 flags)
{
	u32 i;

	if (flags)
		return -EINVAL;
	if (nr_loops > BPF_MAX_LOOPS)
		return -E2BIG;
	for (i = 0; i < nr_loops; i++)
		if (callback(i, (u64)(uintptr_t)ctx, 0, 0, 0))
			return i + 1;
	return i;
}

/* They have no caller in this image: programs call them by address. */
KCALL(bpf_map_lookup_elem);
KCALL(bpf_map_update_elem);
KCALL(bpf_map_delete_elem);
KCALL(bpf_ktime_get_ns);
KCALL(bpf_get_prandom_u32);
KCALL(bpf_get_smp_processor_id);
KCALL(bpf_get_current_pid_tgid);
KCALL(bpf_get_current_uid_gid);
KCALL(bpf_get_current_comm);
KCALL(bpf_trace_printk);
KCALL(bpf_get_current_task);
KCALL(bpf_jiffies64);
KCALL(bpf_ktime_get_boot_ns);

/* kernel/bpf/core.c: the entry of a program that is interpreted; outside, with the frame of a JITed one */
unsigned int bpf_prog_run_interp(const void *ctx, const struct bpf_insn *insn);
KCALL(bpf_prog_run_interp);
