// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stack walk that BPF asks for. Mirrors arch_bpf_stack_walk() (arch/arm64/kernel/stacktrace.c): frame records
 * {fp, lr}; a record of zeroes lies in struct pt_regs and is followed by its kind.
 */
#include <linux/bpf.h>
#include <asm/ptrace.h>

noinline void arch_bpf_stack_walk(bool (*consume)(void *cookie, u64 ip, u64 sp, u64 bp), void *cookie)
{
	struct frame_record *frame = __builtin_frame_address(0);

	while (frame) {
		if (!frame->fp && !frame->lr) {
			struct frame_record_meta *meta = container_of(frame, struct frame_record_meta, record);
			struct pt_regs *regs = container_of(meta, struct pt_regs, stackframe);

			if (meta->type != FRAME_META_TYPE_PT_REGS || !consume(cookie, regs->pc, 0, regs->regs[29]))
				return;
			frame = (struct frame_record *)regs->regs[29];
			continue;
		}
		if (!consume(cookie, frame->lr, 0, frame->fp))
			return;
		frame = (struct frame_record *)frame->fp;
	}
}
