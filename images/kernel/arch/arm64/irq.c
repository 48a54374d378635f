// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts: which one it is, and on which stack it is handled. Mirrors arch/arm64/kernel/irq.c, entry-common.c
 * (do_interrupt_handler), drivers/irqchip/irq-gic-v3.c (gic_handle_irq; that it goes on until nothing is pending is
 * irq-gic.c's), kernel/irq/irqdesc.c and chip.c, and the handler of drivers/clocksource/arm_arch_timer.c. The only
 * interrupts are a CPU's own, so that a descriptor is no more than its number. Left out: devices, priorities, statistics.
 */
#include <linux/hardirq.h>
#include <asm/ptrace.h>
#include "irq.h"
#include "regs.h"

#define GIC_FIRST_SPECIAL 1020U	/* numbers from here on mean that no interrupt is pending */
#define VIRTUAL_TIMER_PPI 27

void call_on_irq_stack(struct pt_regs *regs, void (*handler)(struct pt_regs *regs));

/* lowest address, written by boot */
DEFINE_PER_CPU(unsigned long, irq_stack_ptr);

static __always_inline u32 gic_read_iar(void)
{
	unsigned long iar;

	__asm__ __volatile__("mrs %0, s3_0_c12_c12_0" : "=r"(iar) :: "memory");	/* ICC_IAR1_EL1 */
	return (u32)iar & 0xffffff;
}

static __always_inline void gic_write_eoir(u32 irq)
{
	__asm__ __volatile__("msr s3_0_c12_c12_1, %0\n\tisb" :: "r"((unsigned long)irq) : "memory");	/* ICC_EOIR1_EL1 */
}

static __frame void arch_timer_handler_virt(void)
{
	hrtimer_interrupt();
}

static __frame void handle_percpu_devid_irq(u32 irq)
{
	if (irq == VIRTUAL_TIMER_PPI)
		arch_timer_handler_virt();
	else
		ipi_handler((int)irq);
}

static __frame void handle_irq_desc(u32 irq)
{
	handle_percpu_devid_irq(irq);
}

static __frame void generic_handle_domain_irq(u32 hwirq)
{
	handle_irq_desc(hwirq);
}

__used __frame void gic_handle_irq(struct pt_regs *regs)
{
	u32 irq;

	(void)regs;
	while ((irq = gic_read_iar()) < GIC_FIRST_SPECIAL) {
		gic_write_eoir(irq);
		generic_handle_domain_irq(irq);
	}
}

/* on the task's own stack: the interrupt gets another one */
static __always_inline bool on_thread_stack(void)
{
	unsigned long sp = (unsigned long)__builtin_frame_address(0), stack = (unsigned long)current->stack;

	return sp >= stack && sp < stack + THREAD_SIZE;
}

__frame void do_interrupt_handler(struct pt_regs *regs, void (*handler)(struct pt_regs *regs))
{
	if (on_thread_stack())
		call_on_irq_stack(regs, handler);
	else
		handler(regs);
}
