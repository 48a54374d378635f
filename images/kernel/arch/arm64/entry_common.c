// SPDX-License-Identifier: GPL-2.0-only
/* What an exception was, by its syndrome. Mirrors arch/arm64/kernel/entry-common.c and traps.c. */
#include <linux/bpf.h>
#include <linux/entry-common.h>
#include <linux/hardirq.h>
#include <asm/bug.h>
#include <asm/ptrace.h>
#include "esr.h"
#include "irq.h"

void do_mem_abort(unsigned long far, unsigned long esr, struct pt_regs *regs);
void do_el0_svc(struct pt_regs *regs);

/* kcalls: texts, and what becomes of the task */
void die(const char *str, struct pt_regs *regs, long err);
bool report_bug(struct pt_regs *regs);	/* true: a WARN, go on behind the brk */
void panic_unhandled(struct pt_regs *regs, const char *vector, unsigned long esr);
void panic_bad_stack(struct pt_regs *regs, unsigned long esr, unsigned long far);

static __frame void el1_abort(struct pt_regs *regs, unsigned long esr)
{
	unsigned long far = read_sysreg(far_el1);

	local_daif_inherit(regs);
	do_mem_abort(far, esr, regs);
	raw_local_irq_disable();
}

static __frame void el1_pc(struct pt_regs *regs, unsigned long esr)
{
	local_daif_inherit(regs);
	die("Oops - SP/PC alignment exception", regs, (long)esr);
}

static __frame void el1_undef(struct pt_regs *regs, unsigned long esr)
{
	local_daif_inherit(regs);
	die("Oops - Undefined instruction", regs, (long)esr);
}

static __frame void el1_brk64(struct pt_regs *regs, unsigned long esr)
{
	if (ESR_BRK_COMMENT(esr) != BUG_BRK_IMM) {
		die("Oops - BRK", regs, (long)esr);
		return;
	}
	if (report_bug(regs))
		regs->pc += 4;
	else
		die("Oops - BUG", regs, (long)esr);
}

__used __frame void el1h_64_sync_handler(struct pt_regs *regs)
{
	unsigned long esr = read_sysreg(esr_el1);

	switch (ESR_EC(esr)) {
	case ESR_EC_DABT_CUR:
	case ESR_EC_IABT_CUR:
		el1_abort(regs, esr);
		break;
	case ESR_EC_PC_ALIGN:
	case ESR_EC_SP_ALIGN:
		el1_pc(regs, esr);
		break;
	case ESR_EC_UNKNOWN:
	case ESR_EC_SYS64:
		el1_undef(regs, esr);
		break;
	case ESR_EC_BRK64:
		el1_brk64(regs, esr);
		break;
	default:
		panic_unhandled(regs, "64-bit el1h sync", esr);
	}
}

/* Interrupts were on, or there would be none. */
static __frame void el1_interrupt(struct pt_regs *regs, void (*handler)(struct pt_regs *regs))
{
	local_daif_mask_irq();
	trace_hardirqs_off();
	irq_enter_rcu();
	do_interrupt_handler(regs, handler);
	irq_exit_rcu();
	trace_hardirqs_on();
}

__used __frame void el1h_64_irq_handler(struct pt_regs *regs)
{
	el1_interrupt(regs, gic_handle_irq);
}

static __frame void el0_interrupt(struct pt_regs *regs, void (*handler)(struct pt_regs *regs))
{
	enter_from_user_mode();
	local_daif_mask_irq();
	irq_enter_rcu();
	do_interrupt_handler(regs, handler);
	irq_exit_rcu();
	local_irq_disable();
	exit_to_user_mode_prepare(regs);
}

static __frame void __el0_irq_handler_common(struct pt_regs *regs)
{
	el0_interrupt(regs, gic_handle_irq);
}

__used __frame void el0t_64_irq_handler(struct pt_regs *regs)
{
	__el0_irq_handler_common(regs);
}

__used __frame void el1_bad_handler(struct pt_regs *regs)
{
	panic_unhandled(regs, "64-bit el1", read_sysreg(esr_el1));
}

__used __frame void el0_bad_handler(struct pt_regs *regs)
{
	panic_unhandled(regs, "64-bit el0", read_sysreg(esr_el1));
}

__used __frame void handle_bad_stack(struct pt_regs *regs)
{
	panic_bad_stack(regs, read_sysreg(esr_el1), read_sysreg(far_el1));
}

static __frame void el0_da(struct pt_regs *regs, unsigned long esr)
{
	unsigned long far = read_sysreg(far_el1);

	local_irq_enable();
	do_mem_abort(far, esr, regs);
}

static __frame void el0_ia(struct pt_regs *regs, unsigned long esr)
{
	unsigned long far = read_sysreg(far_el1);

	local_irq_enable();
	do_mem_abort(far, esr, regs);
}

static __frame void el0_svc(struct pt_regs *regs)
{
	local_irq_enable();
	do_el0_svc(regs);
}

/* arm64_notify_die() of user mode: the frame will say nothing of the address. */
static __always_inline void el0_signal(int sig, int code, unsigned long addr, unsigned long esr)
{
	local_irq_enable();
	current->thread.fault_address = 0;
	current->thread.fault_code = esr;
	force_sig_fault(sig, code, addr);
}

__used __frame void el0t_64_sync_handler(struct pt_regs *regs)
{
	unsigned long esr = read_sysreg(esr_el1);

	enter_from_user_mode();
	switch (ESR_EC(esr)) {
	case ESR_EC_SVC64:
		el0_svc(regs);
		break;
	case ESR_EC_DABT_LOW:
		el0_da(regs, esr);
		break;
	case ESR_EC_IABT_LOW:
		el0_ia(regs, esr);
		break;
	case ESR_EC_PC_ALIGN:
		el0_signal(SIGBUS, BUS_ADRALN, read_sysreg(far_el1), esr);
		break;
	case ESR_EC_SP_ALIGN:
		el0_signal(SIGBUS, BUS_ADRALN, regs->sp, esr);
		break;
	case ESR_EC_BRK64:	/* send_user_sigtrap() leaves what is known of the last fault */
		local_irq_enable();
		force_sig_fault(SIGTRAP, TRAP_BRKPT, regs->pc);
		break;
	default:
		el0_signal(SIGILL, ILL_ILLOPC, regs->pc, 0);
	}
	local_irq_disable();
	exit_to_user_mode_prepare(regs);
}

/* Of a new task: a signal may have come before it ever ran. */
__used __frame void asm_exit_to_user_mode(struct pt_regs *regs)
{
	local_irq_disable();
	exit_to_user_mode_prepare(regs);
}

/* entered from assembly only; named here so that its prototype is known */
__used void (*const thread_exit)(int) = do_group_exit;
