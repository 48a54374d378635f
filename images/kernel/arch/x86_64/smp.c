// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calling functions on other CPUs. Mirrors kernel/smp.c and arch/x86/kernel/smp.c: a queue for each CPU, an interrupt
 * where it was empty, and a lock in each call that its CPU opens when it is done. Left out: calls that nobody waits for,
 * the watchdog of CSD locks. A rescheduling interrupt is sent for a signal only: a woken task is found by whoever chooses
 * the next one.
 */
#include <asm/idtentry.h>
#include <asm/smp.h>
#include <linux/irqflags.h>

#define CSD_FLAG_LOCK 0x01

struct call_single_data {
	struct call_single_data *next;
	unsigned int flags;
	smp_call_func_t func;
	void *info;
};

static struct call_single_data cfd_data[NR_CPUS][NR_CPUS];	/* of the one that calls, for the one that is called */
static struct call_single_data *call_single_queue[NR_CPUS];

/* kcall: the local APIC sends it */
void native_send_call_func_single_ipi(int cpu);

static __always_inline void csd_lock_wait(struct call_single_data *csd)
{
	while (__atomic_load_n(&csd->flags, __ATOMIC_ACQUIRE) & CSD_FLAG_LOCK)
		cpu_relax();
}

/* llist_add(): whether the queue was empty */
static __always_inline bool enqueue(struct call_single_data *csd, int cpu)
{
	csd->next = __atomic_load_n(&call_single_queue[cpu], __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&call_single_queue[cpu], &csd->next, csd, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_RELAXED))
		;
	return !csd->next;
}

static __frame void smp_call_function_many_cond(unsigned long mask, smp_call_func_t func, void *info, smp_cond_func_t cond)
{
	int this_cpu = raw_smp_processor_id();
	unsigned long called = 0;

	for (int cpu = 0; cpu < NR_CPUS; cpu++) {
		struct call_single_data *csd = &cfd_data[this_cpu][cpu];

		if (cpu == this_cpu || !(mask >> cpu & 1) || (cond && !cond(cpu, info)))
			continue;
		csd_lock_wait(csd);
		csd->flags = CSD_FLAG_LOCK;
		csd->func = func;
		csd->info = info;
		called |= 1UL << cpu;
		if (enqueue(csd, cpu))
			native_send_call_func_single_ipi(cpu);
	}
	if (mask >> this_cpu & 1 && (!cond || cond(this_cpu, info))) {
		unsigned long flags = local_irq_save();

		func(info);
		local_irq_restore(flags);
	}
	for (int cpu = 0; cpu < NR_CPUS; cpu++)
		if (called >> cpu & 1)
			csd_lock_wait(&cfd_data[this_cpu][cpu]);
}

__frame void on_each_cpu_cond_mask(smp_cond_func_t cond, smp_call_func_t func, void *info, unsigned long mask)
{
	preempt_disable();
	smp_call_function_many_cond(mask, func, info, cond);
	preempt_enable();
}

/* The latest call is first in the queue: it is turned round. */
static __frame void __flush_smp_call_function_queue(void)
{
	struct call_single_data *latest, *csd = NULL;

	latest = __atomic_exchange_n(&call_single_queue[raw_smp_processor_id()], NULL, __ATOMIC_SEQ_CST);
	while (latest) {
		struct call_single_data *next = latest->next;

		latest->next = csd;
		csd = latest;
		latest = next;
	}
	while (csd) {
		struct call_single_data *next = csd->next;

		csd->func(csd->info);
		__atomic_store_n(&csd->flags, 0, __ATOMIC_RELEASE);
		csd = next;
	}
}

static __frame void generic_smp_call_function_single_interrupt(void)
{
	__flush_smp_call_function_queue();
}

DEFINE_IDTENTRY_SYSVEC(sysvec_call_function_single)
{
	(void)regs;
	generic_smp_call_function_single_interrupt();
}

/* scheduler_ipi(): the way out of the interrupt looks what there is to do */
DEFINE_IDTENTRY_SYSVEC_SIMPLE(sysvec_reschedule_ipi)
{
	(void)regs;
}
