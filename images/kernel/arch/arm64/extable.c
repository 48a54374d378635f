// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exception-table fixups. Mirrors arch/arm64/mm/extable.c and ex_handler_bpf() of arch/arm64/net/bpf_jit_comp.c.
 */
#include <linux/bpf.h>
#include <asm/ptrace.h>

#define EX_DATA_REG_ERR(data) ((data) & 31)
#define EX_DATA_REG_ZERO(data) ((data) >> 5 & 31)
#define BPF_FIXUP_REG(fixup) ((fixup) >> 27 & 31)
#define BPF_ARENA_REG(fixup) ((fixup) >> 16 & 31)
#define BPF_ARENA_ACCESS (1U << 21)
#define DONT_CLEAR 5

__frame bool ex_handler_bpf(const struct exception_table_entry *x, struct pt_regs *regs)
{
	u32 fixup = (u32)x->fixup;
	u32 dst = BPF_FIXUP_REG(fixup);

	if (fixup & BPF_ARENA_ACCESS) {
		/* read before the destination is cleared: they may be the same register */
		unsigned long addr = regs->regs[BPF_ARENA_REG(fixup)] + (s16)fixup;

		bpf_prog_report_arena_violation(dst == DONT_CLEAR, addr, regs->pc);
	}
	if (dst != DONT_CLEAR)
		regs->regs[dst] = 0;
	regs->pc += 4;
	return true;
}

static __always_inline void set_reg(struct pt_regs *regs, unsigned int reg, u64 value)
{
	if (reg != 31)
		regs->regs[reg] = value;
}

__frame bool fixup_exception(struct pt_regs *regs, unsigned long esr)
{
	const struct exception_table_entry *e = search_exception_tables(regs->pc);

	(void)esr;
	if (!e)
		return false;
	switch (e->type) {
	case EX_TYPE_BPF:
		return ex_handler_bpf(e, regs);
	case EX_TYPE_UACCESS_ERR_ZERO:
	case EX_TYPE_KACCESS_ERR_ZERO:
		set_reg(regs, EX_DATA_REG_ERR(e->data), (u64)-EFAULT);
		set_reg(regs, EX_DATA_REG_ZERO(e->data), 0);
		regs->pc = (unsigned long)&e->fixup + e->fixup;
		return true;
	}
	return false;
}
