// SPDX-License-Identifier: GPL-2.0-only
/*
 * Work for a hard interrupt. Mirrors kernel/irq_work.c: it interrupts its CPU at once where that is modelled
 * (arch_irq_work_raise()); IRQ_WORK_LAZY work, and that of a CPU with interrupts off, runs when the CPU is idle.
 */
#include <linux/bpf.h>

/* kcalls: false where it is queued already; the next one that waits for its interrupt, NULL where none does */
bool irq_work_claim(struct irq_work *work, bool lazy);
struct irq_work *irq_work_next(void);

/* out of line in arm64's kernels only */
#ifdef __aarch64__
static __frame void __irq_work_queue_local(struct irq_work *work)
#else
static __always_inline void __irq_work_queue_local(struct irq_work *work)
#endif
{
	if (!(work->flags & IRQ_WORK_LAZY))
		arch_irq_work_raise();
}

__frame bool irq_work_queue(struct irq_work *work)
{
	if (!irq_work_claim(work, work->flags & IRQ_WORK_LAZY))
		return false;
	__irq_work_queue_local(work);
	return true;
}

static __frame void irq_work_single(struct irq_work *work)
{
	/* lockdep_irq_work_enter(): it may take what a threaded handler may, unless it must run in the interrupt */
	current->irq_config = !(work->flags & IRQ_WORK_HARD_IRQ);
	work->func(work);
	current->irq_config = false;
}

static __frame void irq_work_run_list(void)
{
	struct irq_work *work;

	while ((work = irq_work_next()))
		irq_work_single(work);
}

__used __frame void irq_work_run(void)
{
	irq_work_run_list();
}
