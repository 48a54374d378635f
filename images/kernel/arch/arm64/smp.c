// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts that CPUs send each other. Mirrors arch/arm64/kernel/smp.c of 6.18, kernel/irq/ipi.c and the sending half
 * of drivers/irqchip/irq-gic-v3.c, whose registers emu/cpu/gic.py has. Left out: stopping CPUs, broadcast timers,
 * backtraces, domains of interrupts (an IPI's number is that of its SGI).
 */
#include <linux/bpf.h>
#include <linux/irqflags.h>
#include "irq.h"

enum ipi_msg_type {
	IPI_RESCHEDULE, IPI_CALL_FUNC, IPI_CPU_STOP, IPI_CPU_STOP_NMI, IPI_TIMER, IPI_IRQ_WORK,
};

#define ICC_SGI1R_SGI_ID_SHIFT 24

/* kcall: the line about an IPI that nobody knows */
void unknown_ipi(int ipinr);

__frame void ipi_handler(int ipinr)
{
	switch (ipinr) {
	case IPI_RESCHEDULE:	/* scheduler_ipi(): the way out of the interrupt looks whether to schedule */
		break;
	case IPI_IRQ_WORK:
		irq_work_run();
		break;
	default:
		unknown_ipi(ipinr);
	}
}

/*
 * gic_ipi_send_mask() is part of it: an interrupt that this CPU sends itself is taken behind the write. A CPU's number
 * is its affinity 0, all others are zero.
 */
static __frame void __ipi_send_mask(unsigned int ipinr, unsigned long cpus)
{
	unsigned long value = (unsigned long)ipinr << ICC_SGI1R_SGI_ID_SHIFT | cpus;

	__asm__ __volatile__("msr s3_0_c12_c11_5, %0\n\tisb" :: "r"(value) : "memory");	/* ICC_SGI1R_EL1 */
}

static __frame void arm64_send_ipi(unsigned long cpus, unsigned int ipinr)
{
	__ipi_send_mask(ipinr, cpus);
}

/* With interrupts off the work waits until the CPU is idle. */
__frame void arch_irq_work_raise(void)
{
	if (!irqs_disabled())
		arm64_send_ipi(1UL << raw_smp_processor_id(), IPI_IRQ_WORK);
}
