// SPDX-License-Identifier: GPL-2.0-only
/* Exception-table fixups. Mirrors arch/x86/mm/extable.c. */
#include <linux/bpf.h>
#include <asm/ptrace.h>

#define FIXUP_INSN_LEN_MASK 0xff
#define FIXUP_REG(fixup) ((fixup) >> 8 & 0xff)
#define FIXUP_ARENA_REG(fixup) ((fixup) >> 16 & 0xff)
#define FIXUP_ARENA_ACCESS (1U << 31)
#define DONT_CLEAR 1

__frame bool ex_handler_bpf(const struct exception_table_entry *x, struct pt_regs *regs)
{
	u32 fixup = (u32)x->fixup;
	u32 reg = FIXUP_REG(fixup);

	if (fixup & FIXUP_ARENA_ACCESS) {
		/* read before the destination is cleared: they may be the same register */
		unsigned long addr = *(unsigned long *)((char *)regs + FIXUP_ARENA_REG(fixup));

		bpf_prog_report_arena_violation(reg == DONT_CLEAR, addr + (s16)((u32)x->data >> 16), regs->ip);
	}
	if (reg != DONT_CLEAR)
		*(unsigned long *)((char *)regs + reg) = 0;
	regs->ip += fixup & FIXUP_INSN_LEN_MASK;
	return true;
}

__frame bool fixup_exception(struct pt_regs *regs, int trapnr, unsigned long error_code, unsigned long fault_addr)
{
	const struct exception_table_entry *e = search_exception_tables(regs->ip);

	(void)trapnr;
	(void)error_code;
	(void)fault_addr;
	if (!e)
		return false;
	switch (e->data & 0xff) {
	case EX_TYPE_DEFAULT:
	case EX_TYPE_UACCESS:
		regs->ip = (unsigned long)&e->fixup + e->fixup;
		return true;
	case EX_TYPE_BPF:
		return ex_handler_bpf(e, regs);
	}
	return false;
}
