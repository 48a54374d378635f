/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exception tables. Mirrors arch/arm64/include/asm/extable.h and asm-extable.h.
 *
 *      insn, fixup: 32 bits, relative to the field itself     type, data: 16 bits
 *
 * data of the access types: [4:0] register that gets -EFAULT, [9:5] register that is zeroed (31: none).
 * In a BPF program's table `fixup` is no address but: [15:0] signed offset of the access, [20:16] arena address
 * register, [21] arena access, [31:27] destination (5: do not clear).
 */
#ifndef _ASM_EXTABLE_H
#define _ASM_EXTABLE_H

#define EX_TYPE_NONE 0
#define EX_TYPE_BPF 1
#define EX_TYPE_UACCESS_ERR_ZERO 2
#define EX_TYPE_KACCESS_ERR_ZERO 3

#ifdef __ASSEMBLY__
#define _ASM_EXTABLE_TYPE(from, to, type, data)		\
	.pushsection "__ex_table", "a";			\
	.balign 4;					\
	.long (from) - .;				\
	.long (to) - .;					\
	.short type;					\
	.short data;					\
	.popsection
#else
#include <linux/types.h>

struct exception_table_entry {
	int insn, fixup;
	short type, data;
};
struct pt_regs;

bool fixup_exception(struct pt_regs *regs, unsigned long esr);
const struct exception_table_entry *search_exception_tables(unsigned long addr);
#endif
#endif
