// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interrupt a CPU sends itself. Mirrors arch/x86/kernel/irq_work.c and the stack switch of asm/irq_stack.h. There is
 * no local APIC: the instruction that raises the interrupt is one that has its effect.
 */
#include <linux/bpf.h>
#include <linux/hardirq.h>
#include <linux/irqflags.h>
#include <asm/ptrace.h>

#define IRQ_STACK_SIZE THREAD_SIZE

/* the last word of each holds the stack pointer of what was interrupted */
__used __aligned(4096) char irq_stacks[NR_CPUS][IRQ_STACK_SIZE];

__frame void arch_irq_work_raise(void)
{
	if (!irqs_disabled())
		__asm__ __volatile__("int $0xf6" ::: "memory");	/* IRQ_WORK_VECTOR */
}

__used __frame void __sysvec_irq_work(struct pt_regs *regs)
{
	(void)regs;
	irq_work_run();
}

__used __frame void sysvec_irq_work(struct pt_regs *regs)
{
	char *tos = irq_stacks[raw_smp_processor_id()] + IRQ_STACK_SIZE - 8;

	trace_hardirqs_off();
	irq_enter_rcu();
	__asm__ __volatile__("movq %%rsp, (%%rbx)\n\t"
			     "movq %%rbx, %%rsp\n\t"
			     "call __sysvec_irq_work\n\t"
			     "popq %%rsp"
			     : "+b"(tos), "+D"(regs)
			     :: "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory");
	irq_exit_rcu();
	trace_hardirqs_on();	/* it was raised with interrupts on */
}
