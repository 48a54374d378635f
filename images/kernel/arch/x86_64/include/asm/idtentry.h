/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Handlers of interrupts that have a vector of their own. Mirrors DEFINE_IDTENTRY_SYSVEC() of asm/idtentry.h and
 * run_sysvec_on_irqstack_cond() of asm/irq_stack.h: on the stack of the task where user mode was interrupted, else on
 * that of the CPU's interrupts.
 */
#ifndef _ASM_IDTENTRY_H
#define _ASM_IDTENTRY_H

#include <asm/ptrace.h>
#include <linux/entry-common.h>
#include <linux/hardirq.h>

#define IRQ_STACK_SIZE THREAD_SIZE

/* the last word of each holds the stack pointer of what was interrupted */
extern char irq_stacks[NR_CPUS][IRQ_STACK_SIZE];

#define DEFINE_IDTENTRY_SYSVEC(name)							\
static __used __frame void __##name(struct pt_regs *regs);				\
__used __frame void name(struct pt_regs *regs)						\
{											\
	char *tos = irq_stacks[raw_smp_processor_id()] + IRQ_STACK_SIZE - 8;		\
											\
	if (user_mode(regs)) {								\
		enter_from_user_mode();							\
		irq_enter_rcu();							\
		__##name(regs);								\
		irq_exit_rcu();								\
		exit_to_user_mode_prepare(regs);					\
		return;									\
	}										\
	trace_hardirqs_off();								\
	irq_enter_rcu();								\
	__asm__ __volatile__("movq %%rsp, (%%rbx)\n\t"					\
			     "movq %%rbx, %%rsp\n\t"					\
			     "call __" #name "\n\t"					\
			     "popq %%rsp"						\
			     : "+b"(tos), "+D"(regs)					\
			     :: "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory"); \
	irq_exit_rcu();									\
	trace_hardirqs_on();	/* it came in with interrupts on */			\
}											\
static __used __frame void __##name(struct pt_regs *regs)

/* One that does so little that it stays on the stack where it finds itself; its body is part of the handler. */
#define DEFINE_IDTENTRY_SYSVEC_SIMPLE(name)						\
static __always_inline void __##name(struct pt_regs *regs);				\
__used __frame void name(struct pt_regs *regs)						\
{											\
	bool user = user_mode(regs);							\
											\
	if (user)									\
		enter_from_user_mode();							\
	else										\
		trace_hardirqs_off();							\
	irq_enter_rcu();								\
	__##name(regs);									\
	irq_exit_rcu();									\
	if (user)									\
		exit_to_user_mode_prepare(regs);					\
	else										\
		trace_hardirqs_on();							\
}											\
static __always_inline void __##name(struct pt_regs *regs)

#endif
