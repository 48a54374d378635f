// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory aborts, from the vector to handle_mm_fault(), a fixup, arena recovery or the oops.
 * Mirrors arch/arm64/mm/fault.c in its order of checks. Left out: MTE, guarded control stacks, permission overlays,
 * kprobes, software PAN, external aborts other than by their oops.
 */
#include <linux/bpf.h>
#include <linux/mmap_lock.h>
#include <linux/signal.h>
#include <asm/ptrace.h>
#include "esr.h"

/* kcalls */
void die_kernel_fault(const char *msg, unsigned long addr, unsigned long esr, struct pt_regs *regs);
void spurious_translation_fault(unsigned long addr);	/* the WARN_RATELIMIT text */
/* fault_info[].name, then die("Oops", ...) */
void arm64_notify_die(struct pt_regs *regs, unsigned long far, unsigned long esr);

static __always_inline bool is_el1_instruction_abort(unsigned long esr)
{
	return ESR_EC(esr) == ESR_EC_IABT_CUR;
}

static __always_inline bool is_el1_data_abort(unsigned long esr)
{
	return ESR_EC(esr) == ESR_EC_DABT_CUR;
}

static __always_inline bool is_el0_instruction_abort(unsigned long esr)
{
	return ESR_EC(esr) == ESR_EC_IABT_LOW;
}

static __always_inline bool is_write_abort(unsigned long esr)
{
	return (esr & ESR_WNR) && !(esr & ESR_CM);
}

static __always_inline bool is_el1_permission_fault(unsigned long esr)
{
	return (is_el1_data_abort(esr) || is_el1_instruction_abort(esr)) && ESR_FSC_TYPE(esr) == ESR_FSC_PERM;
}

static __always_inline bool is_translation_fault(unsigned long esr)
{
	return ESR_FSC_TYPE(esr) == ESR_FSC_FAULT;
}

/* Ask the MMU again: an entry may have become valid after the access looked it up. */
static bool is_spurious_el1_translation_fault(unsigned long addr, unsigned long esr)
{
	unsigned long par;

	if (!is_el1_data_abort(esr) || !is_translation_fault(esr))
		return false;
	__asm__ __volatile__("at s1e1r, %0\n\tisb" :: "r"(addr) : "memory");
	par = read_sysreg(par_el1);
	if (!(par & 1))
		return true;
	/* still a fault: only another translation fault is the real thing */
	return (par >> 1 & 0x3c) != ESR_FSC_FAULT;
}

static __frame void __do_kernel_fault(unsigned long addr, unsigned long esr, struct pt_regs *regs)
{
	const char *msg;

	/* a jump to nowhere has no fixup */
	if (!is_el1_instruction_abort(esr) && fixup_exception(regs, esr))
		return;
	if (is_spurious_el1_translation_fault(addr, esr)) {
		spurious_translation_fault(addr);
		return;
	}
	if (is_el1_permission_fault(esr)) {
		if (esr & ESR_WNR)
			msg = "write to read-only memory";
		else if (is_el1_instruction_abort(esr))
			msg = "execute from non-executable memory";
		else
			msg = "read from unreadable memory";
	} else if (addr < PAGE_SIZE) {
		msg = "NULL pointer dereference";
	} else {
		if (is_translation_fault(esr)) {
			if (kfence_handle_page_fault(addr, esr & ESR_WNR, regs))
				return;
			if (kernel_features.arena_scratch && bpf_arena_handle_page_fault(addr, esr & ESR_WNR, regs->pc))
				return;
		}
		msg = "paging request";
	}
	die_kernel_fault(msg, addr, esr, regs);
}

/* What a signal frame will say; of a kernel address a program learns only that it faulted. */
static void set_thread_esr(unsigned long address, unsigned long esr)
{
	unsigned long told = ESR_EC_MASK | ESR_IL | (is_el0_instruction_abort(esr) ? 0 : ESR_CM | ESR_WNR);

	current->thread.fault_address = address;
	current->thread.fault_code = is_ttbr0_addr(address) ? esr : (esr & told) | ESR_FSC_FAULT;
}

static __frame void do_bad_area(unsigned long far, unsigned long esr, struct pt_regs *regs)
{
	if (!user_mode(regs)) {
		__do_kernel_fault(far, esr, regs);
		return;
	}
	set_thread_esr(far, esr);
	force_sig_fault(SIGSEGV, ESR_FSC_TYPE(esr) == ESR_FSC_FAULT ? SEGV_MAPERR : SEGV_ACCERR, far);
}

static void user_fault_error(vm_fault_t fault, int si_code, unsigned long far)
{
	if (fault & VM_FAULT_OOM)
		pagefault_out_of_memory();
	else if (fault & (VM_FAULT_SIGBUS | VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE))
		force_sig_fault(SIGBUS, BUS_ADRERR, far);
	else
		force_sig_fault(SIGSEGV, si_code, far);
}

static __frame int do_page_fault(unsigned long far, unsigned long esr, struct pt_regs *regs)
{
	struct mm_struct *mm = current->mm;
	unsigned int mm_flags = FAULT_FLAG_DEFAULT;
	unsigned long vm_flags = VM_READ | VM_WRITE | VM_EXEC;
	unsigned long addr = far;
	struct vm_area_struct *vma;
	int si_code = SEGV_MAPERR;
	vm_fault_t fault = 0;

	if (faulthandler_disabled() || !mm)
		goto no_context;
	if (user_mode(regs))
		mm_flags |= FAULT_FLAG_USER;
	if (is_el0_instruction_abort(esr)) {
		vm_flags = VM_EXEC;
		mm_flags |= FAULT_FLAG_INSTRUCTION;
	} else if (is_write_abort(esr)) {
		vm_flags = VM_WRITE;
		mm_flags |= FAULT_FLAG_WRITE;
	}
	if (is_ttbr0_addr(addr) && is_el1_permission_fault(esr)) {
		if (is_el1_instruction_abort(esr)) {
			die_kernel_fault("execution of user memory", addr, esr, regs);
			return 0;
		}
		if (!search_exception_tables(regs->pc)) {
			die_kernel_fault("access to user memory outside uaccess routines", addr, esr, regs);
			return 0;
		}
	}
	if (mm_flags & FAULT_FLAG_USER) {
		vma = lock_vma_under_rcu(mm, addr);
		if (vma) {
			if (!(vma->vm_flags & vm_flags)) {
				vma_end_read(vma);
				si_code = SEGV_ACCERR;
				goto bad_area;
			}
			fault = handle_mm_fault(vma, addr, mm_flags | FAULT_FLAG_VMA_LOCK, regs);
			if (!(fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)))
				vma_end_read(vma);
			if (!(fault & VM_FAULT_RETRY))
				goto done;
			if (fault & VM_FAULT_MAJOR)
				mm_flags |= FAULT_FLAG_TRIED;
			if (fault_signal_pending(fault, true))
				return 0;
		}
	}
retry:
	vma = lock_mm_and_find_vma(mm, addr, regs);
	if (!vma) {
		fault = 0;
		goto bad_area;
	}
	if (!(vma->vm_flags & vm_flags)) {
		mmap_read_unlock(mm);
		fault = 0;
		si_code = SEGV_ACCERR;
		goto bad_area;
	}
	fault = handle_mm_fault(vma, addr, mm_flags, regs);
	if (fault_signal_pending(fault, user_mode(regs))) {
		if (!user_mode(regs))
			goto no_context;
		return 0;
	}
	if (fault & VM_FAULT_COMPLETED)
		return 0;
	if (fault & VM_FAULT_RETRY) {
		mm_flags |= FAULT_FLAG_TRIED;
		goto retry;
	}
	mmap_read_unlock(mm);
done:
	if (!(fault & VM_FAULT_ERROR))
		return 0;
bad_area:
	if (!user_mode(regs))
		goto no_context;
	set_thread_esr(far, esr);
	user_fault_error(fault, si_code, far);
	return 0;
no_context:
	__do_kernel_fault(addr, esr, regs);
	return 0;
}

static __frame int do_translation_fault(unsigned long far, unsigned long esr, struct pt_regs *regs)
{
	if (is_ttbr0_addr(far))
		return do_page_fault(far, esr, regs);
	do_bad_area(far, esr, regs);
	return 0;
}

__frame void do_mem_abort(unsigned long far, unsigned long esr, struct pt_regs *regs)
{
	switch (ESR_FSC_TYPE(esr)) {
	case ESR_FSC_FAULT:
		do_translation_fault(far, esr, regs);
		return;
	case ESR_FSC_ACCESS:
	case ESR_FSC_PERM:
		do_page_fault(far, esr, regs);
		return;
	}
	if (user_mode(regs)) {
		current->thread.fault_address = 0;
		current->thread.fault_code = esr;
		force_sig_fault(SIGBUS, BUS_ADRERR, far);
		return;
	}
	arm64_notify_die(regs, far, esr);
}
