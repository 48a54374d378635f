/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exception tables. Mirrors arch/x86/include/asm/extable.h and extable_fixup_types.h.
 *
 *      insn, fixup: 32 bits, relative to the field itself     data: type [7:0], register [11:8], immediate [31:16]
 *
 * In a BPF program's table `fixup` is no address but: [7:0] length of the instruction, [15:8] offset of the
 * destination in pt_regs (1: do not clear), [23:16] offset of the arena address register, [31] arena access; and
 * data[31:16] is the instruction's signed offset.
 */
#ifndef _ASM_EXTABLE_H
#define _ASM_EXTABLE_H

#define EX_TYPE_DEFAULT 1
#define EX_TYPE_UACCESS 3
#define EX_TYPE_EFAULT_REG 17
#define EX_TYPE_BPF 7

#ifdef __ASSEMBLY__
#define _ASM_EXTABLE_TYPE(from, to, type)		\
	.pushsection "__ex_table", "a";			\
	.balign 4;					\
	.long (from) - .;				\
	.long (to) - .;					\
	.long type;					\
	.popsection
#else
#include <linux/types.h>

struct exception_table_entry {
	int insn, fixup, data;
};
struct pt_regs;

#define _ASM_EXTABLE_TYPE(from, to, type)		\
	".pushsection \"__ex_table\", \"a\"\n"		\
	".balign 4\n"					\
	".long (" #from ") - .\n"			\
	".long (" #to ") - .\n"				\
	".long " #type "\n"				\
	".popsection\n"

bool fixup_exception(struct pt_regs *regs, int trapnr, unsigned long error_code, unsigned long fault_addr);
const struct exception_table_entry *search_exception_tables(unsigned long addr);
#endif
#endif
