// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stack walk that BPF asks for. Mirrors arch_bpf_stack_walk() (arch/x86/net/bpf_jit_comp.c) on top of
 * arch/x86/kernel/unwind_frame.c: each frame is {rbp of the caller, return address}; an rbp with bit 0 set points
 * to the pt_regs of an exception. A traced function calls its trampoline before it has a frame: its own return address
 * is then the next word of the stack.
 */
#include <linux/bpf.h>
#include <asm/ptrace.h>

#define MCOUNT_INSN_SIZE 5

extern const unsigned long __start_mcount_loc[], __stop_mcount_loc[];

static __always_inline bool in_traced_entry(unsigned long ip)
{
	for (const unsigned long *loc = __start_mcount_loc; loc < __stop_mcount_loc; loc++)
		if (*loc + MCOUNT_INSN_SIZE == ip)
			return true;
	return false;
}

noinline void arch_bpf_stack_walk(bool (*consume)(void *cookie, u64 ip, u64 sp, u64 bp), void *cookie)
{
	unsigned long bp = (unsigned long)__builtin_frame_address(0);

	while (bp) {
		if (bp & 1) {
			struct pt_regs *regs = (struct pt_regs *)(bp & ~1UL);

			if (user_mode(regs) || !consume(cookie, regs->ip, regs->sp, regs->bp))
				return;
			bp = regs->bp;
			continue;
		}
		if (!consume(cookie, ((unsigned long *)bp)[1], bp + 16, bp))
			return;
		if (in_traced_entry(((unsigned long *)bp)[1]) && !consume(cookie, ((unsigned long *)bp)[2], bp + 24, bp))
			return;
		bp = *(unsigned long *)bp;
	}
}
