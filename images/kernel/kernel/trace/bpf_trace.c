// SPDX-License-Identifier: GPL-2.0-only
/*
 * BPF programs on tracepoints. Mirrors kernel/trace/bpf_trace.c (bpf_trace_run), include/trace/bpf_probe.h (what calls
 * it for a tracepoint of system calls) and the iterators of include/linux/tracepoint.h.
 */
#include <linux/rcupdate.h>
#include <linux/bpf.h>
#include <trace/events/syscalls.h>

/* struct bpf_raw_tp_link, of which outside makes one for each attached program */
struct bpf_raw_tp_link {
	struct bpf_prog *prog;
	u64 cookie;
};

static __always_inline void __bpf_trace_run(struct bpf_raw_tp_link *link, u64 *args)
{
	struct bpf_prog *prog = link->prog;
	struct bpf_run_ctx *old_run_ctx;
	struct bpf_trace_run_ctx run_ctx;

	if (unlikely(!bpf_prog_get_recursion_context(prog)))
		goto out;
	run_ctx.bpf_cookie = link->cookie;
	old_run_ctx = bpf_set_run_ctx(&run_ctx.run_ctx);
	rcu_read_lock();
	prog->bpf_func(args, prog->insnsi);
	rcu_read_unlock();
	bpf_reset_run_ctx(old_run_ctx);
out:
	bpf_prog_put_recursion_context(prog);
}

__used __frame void bpf_trace_run2(struct bpf_raw_tp_link *link, u64 arg0, u64 arg1)
{
	u64 args[2] = { arg0, arg1 };

	__bpf_trace_run(link, args);
}

/* A tracepoint of system calls may fault, its BPF programs may not. */
#define SYSCALL_TRACEPOINT(name, value)								\
	static __frame void __bpf_trace_##name(void *__data, struct pt_regs *regs, long value)	\
	{											\
		preempt_disable();								\
		bpf_trace_run2(__data, (u64)(uintptr_t)regs, (u64)value);			\
		preempt_enable();								\
	}											\
												\
	struct tracepoint __tracepoint_##name = { #name, __bpf_trace_##name, NULL };		\
												\
	__frame void __traceiter_##name(struct pt_regs *regs, long value)			\
	{											\
		struct tracepoint_func *it = READ_ONCE(__tracepoint_##name.funcs);		\
												\
		for (; it && it->func; it++)							\
			((btf_trace_##name)it->func)(it->data, regs, value);			\
	}

SYSCALL_TRACEPOINT(sys_enter, id)
SYSCALL_TRACEPOINT(sys_exit, ret)

/* kernel/entry/common.c; on arm64 arch/arm64/kernel/ptrace.c. The list is one read section of tasks-trace RCU. */
__frame void syscall_trace_enter(struct pt_regs *regs, long syscall)
{
	current->trc_reader_nesting++;
	__traceiter_sys_enter(regs, syscall);
	current->trc_reader_nesting--;
}

__frame void syscall_exit_work(struct pt_regs *regs, long ret)
{
	current->trc_reader_nesting++;
	__traceiter_sys_exit(regs, ret);
	current->trc_reader_nesting--;
}
