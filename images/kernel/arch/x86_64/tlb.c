// SPDX-License-Identifier: GPL-2.0-only
/*
 * Flushing the TLBs of all CPUs that use an address space. Mirrors arch/x86/mm/tlb.c. A CPU that idles with the address
 * space of its last task (lazy TLB mode) is not disturbed: it flushes when a task of it goes on, if the generation has
 * moved meanwhile (emu/runner.py). Left out: PCIDs, global ASIDs, the CPU's own generation (who is called, flushes).
 */
#include <asm/smp.h>
#include <asm/tlbflush.h>
#include <linux/irqflags.h>

struct flush_tlb_info {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	u64 new_tlb_gen;
	u8 stride_shift;
	bool freed_tables;
};

static const unsigned long tlb_single_page_flush_ceiling = 33;

/* kcalls: a new generation of the address space; the CPUs that have it loaded; whether one of them only idles in it */
u64 inc_mm_tlb_gen(struct mm_struct *mm);
unsigned long mm_cpumask(struct mm_struct *mm);
bool tlb_is_lazy(int cpu);

static __always_inline void flush_tlb_local(void)
{
	unsigned long cr3;

	__asm__ __volatile__("movq %%cr3, %0\n\tmovq %0, %%cr3" : "=r"(cr3) :: "memory");
}

static __frame void flush_tlb_func(void *data)
{
	const struct flush_tlb_info *info = data;

	if (current->active_mm != info->mm)
		return;	/* another one was loaded meanwhile, and that flushes */
	if (info->end == TLB_FLUSH_ALL) {
		flush_tlb_local();
		return;
	}
	for (unsigned long address = info->start; address < info->end; address += 1UL << info->stride_shift)
		__asm__ __volatile__("invlpg (%0)" :: "r"(address) : "memory");
}

static __frame bool should_flush_tlb(int cpu, void *data)
{
	const struct flush_tlb_info *info = data;

	return info->freed_tables || !tlb_is_lazy(cpu);
}

static __frame void native_flush_tlb_multi(unsigned long mask, struct flush_tlb_info *info)
{
	on_each_cpu_cond_mask(should_flush_tlb, flush_tlb_func, info, mask);
}

__frame void flush_tlb_mm_range(struct mm_struct *mm, unsigned long start, unsigned long end, unsigned int stride_shift,
				bool freed_tables)
{
	struct flush_tlb_info info = { .mm = mm, .stride_shift = stride_shift, .freed_tables = freed_tables };
	unsigned long mask;
	int cpu;

	preempt_disable();
	cpu = raw_smp_processor_id();
	if (end == TLB_FLUSH_ALL || (end - start) >> stride_shift > tlb_single_page_flush_ceiling) {
		start = 0;
		end = TLB_FLUSH_ALL;
	}
	info.start = start;
	info.end = end;
	info.new_tlb_gen = inc_mm_tlb_gen(mm);
	mask = mm_cpumask(mm);
	if (mask & ~(1UL << cpu)) {
		native_flush_tlb_multi(mask, &info);
	} else if (mask) {
		local_irq_disable();
		flush_tlb_func(&info);
		local_irq_enable();
	}
	preempt_enable();
}
