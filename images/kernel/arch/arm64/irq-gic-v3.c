// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts as the CPU interface of a GICv3 hands them out. Mirrors drivers/irqchip/irq-gic-v3.c and, for the one
 * interrupt that has a handler, kernel/irq/irqdesc.c, chip.c and drivers/clocksource/arm_arch_timer.c. Left out: SPIs,
 * LPIs, priorities (pseudo-NMIs), the distributor.
 */
#include <linux/bpf.h>
#include <linux/hardirq.h>
#include <asm/ptrace.h>

#define ICC_IAR1_EL1 "s3_0_c12_c12_0"
#define ICC_EOIR1_EL1 "s3_0_c12_c12_1"
#define GIC_SPURIOUS 1023
#define VIRTUAL_TIMER_PPI 27

static __frame void arch_timer_handler_virt(void)
{
	hrtimer_interrupt();
}

static __frame void handle_percpu_devid_irq(void)
{
	arch_timer_handler_virt();
}

static __frame void generic_handle_domain_irq(u32 irqnr)
{
	if (irqnr == VIRTUAL_TIMER_PPI)
		handle_percpu_devid_irq();
}

__frame void gic_handle_irq(struct pt_regs *regs)
{
	u64 irqnr;

	(void)regs;
	__asm__ __volatile__("mrs %0, " ICC_IAR1_EL1 : "=r"(irqnr));
	if (irqnr == GIC_SPURIOUS)
		return;
	__asm__ __volatile__("msr " ICC_EOIR1_EL1 ", %0" :: "r"(irqnr));
	generic_handle_domain_irq((u32)irqnr);
}
