// SPDX-License-Identifier: GPL-2.0-only
/*
 * What trampolines call before and after a program. Mirrors kernel/bpf/trampoline.c; the machine code of trampolines is
 * made outside. Left out: statistics of run time, and migrate_disable(), as tasks keep to their CPU.
 */
#include <linux/rcupdate.h>
#include <linux/bpf.h>

#define NO_START_TIME 1

/* The start time, or 0 where the program must not run. */
__used noinline u64 __bpf_prog_enter_recur(struct bpf_prog *prog, struct bpf_tramp_run_ctx *run_ctx)
{
	rcu_read_lock();
	run_ctx->saved_run_ctx = bpf_set_run_ctx(&run_ctx->run_ctx);
	return bpf_prog_get_recursion_context(prog) ? NO_START_TIME : 0;
}

__used noinline void __bpf_prog_exit_recur(struct bpf_prog *prog, u64 start, struct bpf_tramp_run_ctx *run_ctx)
{
	bpf_reset_run_ctx(run_ctx->saved_run_ctx);
	bpf_prog_put_recursion_context(prog);
	rcu_read_unlock();
}

__used noinline u64 __bpf_prog_enter_sleepable_recur(struct bpf_prog *prog, struct bpf_tramp_run_ctx *run_ctx)
{
	current->trc_reader_nesting++;
	run_ctx->saved_run_ctx = bpf_set_run_ctx(&run_ctx->run_ctx);
	return bpf_prog_get_recursion_context(prog) ? NO_START_TIME : 0;
}

__used noinline void __bpf_prog_exit_sleepable_recur(struct bpf_prog *prog, u64 start,
						     struct bpf_tramp_run_ctx *run_ctx)
{
	bpf_reset_run_ctx(run_ctx->saved_run_ctx);
	bpf_prog_put_recursion_context(prog);
	current->trc_reader_nesting--;
}
