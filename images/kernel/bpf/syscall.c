// SPDX-License-Identifier: GPL-2.0-only
/* bpf(BPF_PROG_TEST_RUN) for programs of type syscall. Mirrors kernel/bpf/syscall.c and net/bpf/test_run.c. */
#include <linux/rcupdate.h>
#include <linux/syscalls.h>

#define U16_MAX 0xffff

__frame int bpf_prog_test_run_syscall(struct bpf_prog *prog, union bpf_attr *attr, union bpf_attr *uattr)
{
	u32 ctx_size_in = attr->test.ctx_size_in;
	void *ctx = NULL;
	u32 retval;
	int err = 0;

	if (attr->test.data_in || attr->test.data_out || attr->test.ctx_out || attr->test.duration ||
	    attr->test.repeat || attr->test.flags || attr->test.batch_size)
		return -EINVAL;
	if (ctx_size_in > U16_MAX)
		return -EINVAL;
	if (ctx_size_in) {
		ctx = kmalloc(ctx_size_in, GFP_KERNEL | __GFP_ZERO);
		if (copy_from_user(ctx, (void *)attr->test.ctx_in, ctx_size_in)) {
			err = -EFAULT;
			goto out;
		}
	}
	rcu_read_lock_trace();
	retval = prog->bpf_func(ctx, prog->insnsi);
	rcu_read_unlock_trace();
	if (copy_to_user(&uattr->test.retval, &retval, sizeof(retval)))
		err = -EFAULT;
	else if (ctx_size_in && copy_to_user((void *)attr->test.ctx_in, ctx, ctx_size_in))
		err = -EFAULT;
out:
	if (ctx)
		kfree(ctx);
	return err;
}

__frame int __sys_bpf(int cmd, union bpf_attr *uattr, unsigned int size)
{
	union bpf_attr attr;
	struct bpf_prog *prog;

	if (cmd != BPF_PROG_TEST_RUN)
		return bpf_sys_other(cmd, uattr, size);
	memset(&attr, 0, sizeof(attr));
	if (copy_from_user(&attr, uattr, min((unsigned long)size, sizeof(attr))))
		return -EFAULT;
	prog = bpf_prog_get(attr.test.prog_fd);
	if (IS_ERR_VALUE(prog))
		return (int)(long)prog;
	return bpf_prog_test_run_syscall(prog, &attr, uattr);
}
