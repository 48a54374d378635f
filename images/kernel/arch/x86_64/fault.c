// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults, from the exception to handle_mm_fault(), a fixup, arena recovery or the oops.
 * Mirrors arch/x86/mm/fault.c in its order of checks. Left out: kprobes, vsyscall emulation, protection keys,
 * shadow stacks, EFI, erratum 93, prefetch quirks.
 */
#include <linux/bpf.h>
#include <linux/entry-common.h>
#include <linux/mmap_lock.h>
#include <asm/ptrace.h>

#define X86_PF_PROT 0x1
#define X86_PF_WRITE 0x2
#define X86_PF_USER 0x4
#define X86_PF_RSVD 0x8
#define X86_PF_INSTR 0x10
#define X86_TRAP_PF 14

/* kcalls: the texts of a dying kernel, and what becomes of the task */
unsigned long oops_begin(void);
void show_fault_oops(struct pt_regs *regs, unsigned long error_code, unsigned long address);
void pgtable_bad_text(struct pt_regs *regs, unsigned long address);
int __die(const char *str, struct pt_regs *regs, long err);
void oops_end(unsigned long flags, struct pt_regs *regs, int sig);
void show_signal_msg(struct pt_regs *regs, unsigned long error_code, unsigned long address);
bool in_task_stack_guard_page(unsigned long address);
void handle_stack_overflow(struct pt_regs *regs, unsigned long fault_address);
/* What a signal frame will say of it. */
static __always_inline void set_signal_archinfo(unsigned long address, unsigned long error_code)
{
	current->thread.trap_nr = X86_TRAP_PF;
	current->thread.error_code = error_code | X86_PF_USER;
	current->thread.cr2 = address;
}

/* kcall: walks init_mm, true where the entry allows the access after all */
bool spurious_kernel_fault(unsigned long error_code, unsigned long address);

static noinline void page_fault_oops(struct pt_regs *regs, unsigned long error_code, unsigned long address)
{
	unsigned long flags;

	if (!user_mode(regs)) {
		if (in_task_stack_guard_page(address)) {
			handle_stack_overflow(regs, address);
			return;
		}
		if (!(error_code & X86_PF_PROT)) {
			bool write = error_code & X86_PF_WRITE;

			if (kfence_handle_page_fault(address, write, regs))
				return;
			if (kernel_features.arena_scratch && bpf_arena_handle_page_fault(address, write, regs->ip))
				return;
		}
	}
	flags = oops_begin();
	show_fault_oops(regs, error_code, address);
	oops_end(flags, regs, __die("Oops", regs, error_code) ? 0 : SIGKILL);
}

/* gcc's specialised clone keeps this name in the 6.18 kernel whose traces are the reference */
void kernelmode_fixup_or_oops(struct pt_regs *regs, unsigned long error_code, unsigned long address, int signal,
			      int si_code) __asm__("kernelmode_fixup_or_oops.constprop.0");

__frame void kernelmode_fixup_or_oops(struct pt_regs *regs, unsigned long error_code, unsigned long address,
				      int signal, int si_code)
{
	(void)signal;
	(void)si_code;
	if (fixup_exception(regs, X86_TRAP_PF, error_code, address))
		return;
	page_fault_oops(regs, error_code, address);
}

static __always_inline void bad_area_nosemaphore(struct pt_regs *regs, unsigned long error_code,
						 unsigned long address, int si_code)
{
	if (!user_mode(regs)) {
		kernelmode_fixup_or_oops(regs, error_code, address, SIGSEGV, si_code);
		return;
	}
	if (!(error_code & X86_PF_USER)) {
		/* a user-mode task faulted in an access of the CPU's own: descriptor tables and the like */
		page_fault_oops(regs, error_code, address);
		return;
	}
	local_irq_enable();
	if (address >= TASK_SIZE_MAX)
		error_code |= X86_PF_PROT;
	show_signal_msg(regs, error_code, address);
	set_signal_archinfo(address, error_code);
	force_sig_fault(SIGSEGV, si_code, address);
	local_irq_disable();
}

static __always_inline void do_kern_addr_fault(struct pt_regs *regs, unsigned long error_code, unsigned long address)
{
	if (!(error_code & (X86_PF_RSVD | X86_PF_USER)) &&
	    (error_code == (X86_PF_WRITE | X86_PF_PROT) || error_code == (X86_PF_INSTR | X86_PF_PROT)) &&
	    spurious_kernel_fault(error_code, address))
		return;
	bad_area_nosemaphore(regs, error_code, address, SEGV_MAPERR);
}

static __always_inline bool access_error(unsigned long error_code, struct vm_area_struct *vma)
{
	if (error_code & X86_PF_WRITE)
		return !(vma->vm_flags & VM_WRITE);
	if (error_code & X86_PF_PROT)
		return true;
	return !(vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC));
}

static void fault_error(struct pt_regs *regs, unsigned long error_code, unsigned long address, vm_fault_t fault)
{
	if (fatal_signal_pending(current) && !user_mode(regs)) {
		kernelmode_fixup_or_oops(regs, error_code, address, 0, 0);
		return;
	}
	if (fault & VM_FAULT_OOM) {
		if (!user_mode(regs)) {
			kernelmode_fixup_or_oops(regs, error_code, address, SIGSEGV, SEGV_MAPERR);
			return;
		}
		pagefault_out_of_memory();
	} else if (fault & (VM_FAULT_SIGBUS | VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) {
		if (!user_mode(regs)) {
			kernelmode_fixup_or_oops(regs, error_code, address, SIGBUS, BUS_ADRERR);
			return;
		}
		set_signal_archinfo(address, error_code);
		force_sig_fault(SIGBUS, BUS_ADRERR, address);
	} else {
		bad_area_nosemaphore(regs, error_code, address, SEGV_MAPERR);
	}
}

noinline void do_user_addr_fault(struct pt_regs *regs, unsigned long error_code, unsigned long address)
{
	struct mm_struct *mm = current->mm;
	unsigned int flags = FAULT_FLAG_DEFAULT;
	struct vm_area_struct *vma;
	vm_fault_t fault;

	/* a jump of the kernel into user space has no fixup */
	if ((error_code & (X86_PF_USER | X86_PF_INSTR)) == X86_PF_INSTR) {
		page_fault_oops(regs, error_code, address);
		return;
	}
	if (error_code & X86_PF_RSVD) {
		unsigned long oops = oops_begin();

		pgtable_bad_text(regs, address);
		oops_end(oops, regs, __die("Bad pagetable", regs, error_code) ? 0 : SIGKILL);
		return;
	}
	/* SMAP: an access that did not say stac() must not find a fixup either */
	if (!(error_code & X86_PF_USER) && !(regs->flags & X86_EFLAGS_AC)) {
		page_fault_oops(regs, error_code, address);
		return;
	}
	if (faulthandler_disabled() || !mm) {
		bad_area_nosemaphore(regs, error_code, address, SEGV_MAPERR);
		return;
	}
	/* an exception in the kernel leaves the traced state as it was */
	if (user_mode(regs))
		local_irq_enable();
	else if (regs->flags & X86_EFLAGS_IF)
		raw_local_irq_enable();
	if (error_code & X86_PF_WRITE)
		flags |= FAULT_FLAG_WRITE;
	if (error_code & X86_PF_INSTR)
		flags |= FAULT_FLAG_INSTRUCTION;
	if (user_mode(regs)) {
		flags |= FAULT_FLAG_USER;
		vma = lock_vma_under_rcu(mm, address);
		if (vma) {
			if (access_error(error_code, vma)) {
				vma_end_read(vma);
				bad_area_nosemaphore(regs, error_code, address, SEGV_ACCERR);
				return;
			}
			fault = handle_mm_fault(vma, address, flags | FAULT_FLAG_VMA_LOCK, regs);
			if (!(fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)))
				vma_end_read(vma);
			if (!(fault & VM_FAULT_RETRY))
				goto done;
			if (fault & VM_FAULT_MAJOR)
				flags |= FAULT_FLAG_TRIED;
			if (fault_signal_pending(fault, true))
				return;
		}
	}
retry:
	vma = lock_mm_and_find_vma(mm, address, regs);
	if (!vma) {
		bad_area_nosemaphore(regs, error_code, address, SEGV_MAPERR);
		return;
	}
	if (access_error(error_code, vma)) {
		mmap_read_unlock(mm);
		bad_area_nosemaphore(regs, error_code, address, SEGV_ACCERR);
		return;
	}
	fault = handle_mm_fault(vma, address, flags, regs);
	if (fault_signal_pending(fault, user_mode(regs))) {
		if (!user_mode(regs))
			kernelmode_fixup_or_oops(regs, error_code, address, SIGBUS, BUS_ADRERR);
		return;
	}
	if (fault & VM_FAULT_COMPLETED)
		return;
	if (fault & VM_FAULT_RETRY) {
		flags |= FAULT_FLAG_TRIED;
		goto retry;
	}
	mmap_read_unlock(mm);
done:
	if (fault & VM_FAULT_ERROR)
		fault_error(regs, error_code, address, fault);
}

__frame void exc_page_fault(struct pt_regs *regs, unsigned long error_code)
{
	unsigned long address = read_cr2();

	if (user_mode(regs))
		enter_from_user_mode();
	if (address >= TASK_SIZE_MAX)
		do_kern_addr_fault(regs, error_code, address);
	else
		do_user_addr_fault(regs, error_code, address);
	raw_local_irq_disable();
	if (user_mode(regs)) {
		trace_hardirqs_off();
		exit_to_user_mode_prepare(regs);
	}
}
