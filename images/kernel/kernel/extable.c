// SPDX-License-Identifier: GPL-2.0-only
/* The search for a fixup. Mirrors kernel/extable.c, lib/extable.c and search_bpf_extables() of kernel/bpf/core.c. */
#include <linux/bpf.h>
#include <asm/extable.h>

extern const struct exception_table_entry __start___ex_table[], __stop___ex_table[];

static __always_inline unsigned long ex_insn_addr(const struct exception_table_entry *x)
{
	return (unsigned long)&x->insn + x->insn;
}

static const struct exception_table_entry *search_extable(const struct exception_table_entry *base, u32 num,
							  unsigned long addr)
{
	for (u32 i = 0; i < num; i++)
		if (ex_insn_addr(base + i) == addr)
			return base + i;
	return NULL;
}

static const struct exception_table_entry *search_bpf_extables(unsigned long addr)
{
	struct bpf_prog *prog;

	if (addr < bpf_jit_start || addr >= bpf_jit_end)
		return NULL;
	prog = bpf_prog_ksym_find(addr);
	if (!prog || !prog->aux->num_exentries)
		return NULL;
	return search_extable(prog->aux->extable, prog->aux->num_exentries, addr);
}

const struct exception_table_entry *search_exception_tables(unsigned long addr)
{
	const struct exception_table_entry *e;

	e = search_extable(__start___ex_table, __stop___ex_table - __start___ex_table, addr);
	return e ? e : search_bpf_extables(addr);
}
