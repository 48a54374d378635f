/* SPDX-License-Identifier: GPL-2.0-only */
/* Registers as the entry code saves them. Mirrors arch/x86/include/asm/ptrace.h. */
#ifndef _ASM_PTRACE_H
#define _ASM_PTRACE_H

#include <linux/types.h>

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax;
	unsigned long ip, cs, flags, sp, ss;
};

#define __USER_DS 0x2bUL
#define __USER_CS 0x33UL
#define X86_EFLAGS_TF 0x100UL
#define X86_EFLAGS_IF 0x200UL
#define X86_EFLAGS_DF 0x400UL
#define X86_EFLAGS_RF 0x10000UL
#define X86_EFLAGS_AC 0x40000UL
#define TASK_SIZE_MAX 0x7ffffffff000UL

#define exception_ip(regs) ((regs)->ip)

static __always_inline bool user_mode(struct pt_regs *regs)
{
	return (regs->cs & 3) == 3;
}

static __always_inline unsigned long read_cr2(void)
{
	unsigned long value;

	__asm__ __volatile__("movq %%cr2, %0" : "=r"(value));
	return value;
}

static __always_inline void raw_local_irq_enable(void)
{
	__asm__ __volatile__("sti" ::: "memory");
}

static __always_inline void raw_local_irq_disable(void)
{
	__asm__ __volatile__("cli" ::: "memory");
}

#endif
