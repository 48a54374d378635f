// SPDX-License-Identifier: GPL-2.0-only
/* Reports about a program into its own stream. Mirrors kernel/bpf/stream.c and the reporters that use it. */
#include <linux/bpf.h>

#define MAX_FRAMES 64

struct dump_stack_ctx {
	u64 ips[MAX_FRAMES];
	int count;
};

static bool dump_stack_cb(void *cookie, u64 ip, u64 sp, u64 bp)
{
	struct dump_stack_ctx *ctx = cookie;

	(void)sp;
	(void)bp;
	ctx->ips[ctx->count++] = ip;
	return ctx->count < MAX_FRAMES;
}

__frame int bpf_stream_stage_dump_stack(struct bpf_stream_stage *ss)
{
	struct dump_stack_ctx ctx;
	int ret;

	ctx.count = 0;
	ret = bpf_stream_stage_print_task(ss);
	if (ret)
		return ret;
	arch_bpf_stack_walk(dump_stack_cb, &ctx);
	ret = bpf_stream_stage_print_frames(ss, ctx.ips, ctx.count);
	if (ret)
		return ret;
	return bpf_stream_stage_printk(ss, "\n", 0, 0, 0, 0);
}

static __always_inline bool bpf_prog_stream_error_limit(struct bpf_prog *prog)
{
	return kernel_features.stream_error_limit &&
	       (u32)__atomic_fetch_add(&prog->aux->stream_error_cnt.counter, 1, __ATOMIC_SEQ_CST) >=
		       kernel_features.stream_error_limit;
}

__frame void bpf_prog_report_arena_violation(bool write, unsigned long addr, unsigned long fault_ip)
{
	struct bpf_stream_stage ss;
	struct bpf_prog *prog = bpf_prog_ksym_find(fault_ip);

	if (!prog)
		return;
	prog = prog->aux->main_prog_aux->prog;
	if (bpf_prog_stream_error_limit(prog))
		return;
	addr += bpf_arena_get_user_vm_start(prog->aux->arena) & ~0xffffffffULL;
	bpf_stream_stage_init(&ss);
	bpf_stream_stage_printk(&ss, "ERROR: Arena %s access at unmapped address 0x%lx\n",
				(u64)(uintptr_t)(write ? "WRITE" : "READ"), addr, 0, 0);
	bpf_stream_stage_dump_stack(&ss);
	bpf_stream_stage_commit(&ss, prog, BPF_STDERR);
	bpf_stream_stage_free(&ss);
}

static __frame void bpf_prog_report_may_goto_violation(void)
{
	struct bpf_stream_stage ss;
	struct bpf_prog *prog = bpf_prog_find_from_stack();

	if (!prog || bpf_prog_stream_error_limit(prog))
		return;
	bpf_stream_stage_init(&ss);
	bpf_stream_stage_printk(&ss, "ERROR: Timeout detected for may_goto instruction\n", 0, 0, 0, 0);
	bpf_stream_stage_dump_stack(&ss);
	bpf_stream_stage_commit(&ss, prog, BPF_STDERR);
	bpf_stream_stage_free(&ss);
}

#define BPF_MAX_TIMED_LOOPS 0xffff
#define NSEC_PER_SEC 1000000000ULL

struct bpf_timed_may_goto {
	u64 count;
	u64 timestamp;
};

/* kernel/bpf/core.c:bpf_check_timed_may_goto(): the new count, 0 to leave the loop */
__used __frame u64 bpf_check_timed_may_goto(struct bpf_timed_may_goto *p)
{
	u64 time = ktime_get_mono_fast_ns();

	if (!p->timestamp) {
		p->timestamp = time;
		return BPF_MAX_TIMED_LOOPS;
	}
	if (time - p->timestamp >= NSEC_PER_SEC / 4) {
		bpf_prog_report_may_goto_violation();
		return 0;
	}
	return BPF_MAX_TIMED_LOOPS;
}

struct walk_stack_ctx {
	struct bpf_prog *prog;
};

static bool find_from_stack_cb(void *cookie, u64 ip, u64 sp, u64 bp)
{
	struct walk_stack_ctx *ctx = cookie;
	struct bpf_prog *prog;

	(void)sp;
	(void)bp;
	if (ip < bpf_jit_start || ip >= bpf_jit_end)
		return true;
	prog = bpf_prog_ksym_find(ip);
	if (!prog)
		return true;
	ctx->prog = prog->aux->main_prog_aux->prog;
	return false;
}

noinline struct bpf_prog *bpf_prog_find_from_stack(void)
{
	struct walk_stack_ctx ctx = { NULL };

	arch_bpf_stack_walk(find_from_stack_cb, &ctx);
	return ctx.prog;
}
