// SPDX-License-Identifier: GPL-2.0-only
/* Exceptions other than page faults. Mirrors arch/x86/kernel/traps.c. */
#include <linux/bpf.h>
#include <linux/entry-common.h>
#include <asm/ptrace.h>

#define X86_TRAP_DE 0
#define X86_TRAP_DB 1
#define X86_TRAP_NMI 2
#define X86_TRAP_BP 3
#define X86_TRAP_OF 4
#define X86_TRAP_BR 5
#define X86_TRAP_UD 6
#define X86_TRAP_NM 7
#define X86_TRAP_TS 10
#define X86_TRAP_NP 11
#define X86_TRAP_SS 12
#define X86_TRAP_GP 13
#define X86_TRAP_MF 16
#define X86_TRAP_AC 17
#define X86_TRAP_XF 19

/* kcalls: texts, and what becomes of the task */
void die(const char *str, struct pt_regs *regs, long err);
void die_gp(struct pt_regs *regs, long err);
bool report_bug(struct pt_regs *regs);	/* true: a WARN, go on behind the ud2 */
void double_fault_oops(struct pt_regs *regs, long err, unsigned long cr2);
void show_signal(struct pt_regs *regs, int sig, const char *what, long err);

/* do_trap() for user mode, and back there. `what` is type and description; a code of 0 is the kernel's own. */
static noinline void user_trap(struct pt_regs *regs, int trapnr, int sig, const char *what, long error_code,
			       int code, unsigned long addr)
{
	enter_from_user_mode();
	local_irq_enable();
	current->thread.error_code = (unsigned long)error_code;
	current->thread.trap_nr = (unsigned long)trapnr;
	show_signal(regs, sig, what, error_code);
	if (code)
		force_sig_fault(sig, code, addr);
	else
		force_sig(sig);
	local_irq_disable();
	exit_to_user_mode_prepare(regs);
}

/* Traps that this kernel text does not cause by itself: a signal for user mode, the end for the kernel. */
#define DEFINE_TRAP(name, text, trapnr, sig, code)				\
	__frame void exc_##name(struct pt_regs *regs, unsigned long error_code)	\
	{									\
		if (user_mode(regs))						\
			user_trap(regs, trapnr, sig, "trap " text, (long)(int)error_code, code, 0); \
		else								\
			die(text, regs, (long)(int)error_code);			\
	}
#define DEFINE_TRAP_NOERR(name, text, trapnr, sig, code, addr)			\
	__frame void exc_##name(struct pt_regs *regs)				\
	{									\
		if (user_mode(regs))						\
			user_trap(regs, trapnr, sig, "trap " text, 0, code, addr); \
		else								\
			die(text, regs, 0);					\
	}

DEFINE_TRAP_NOERR(nmi, "NMI", X86_TRAP_NMI, SIGBUS, 0, 0)
DEFINE_TRAP_NOERR(divide_error, "divide error", X86_TRAP_DE, SIGFPE, FPE_INTDIV, regs->ip)
DEFINE_TRAP_NOERR(debug, "debug", X86_TRAP_DB, SIGTRAP, TRAP_BRKPT, regs->ip)
DEFINE_TRAP_NOERR(int3, "int3", X86_TRAP_BP, SIGTRAP, 0, 0)
DEFINE_TRAP_NOERR(overflow, "overflow", X86_TRAP_OF, SIGSEGV, 0, 0)
DEFINE_TRAP_NOERR(bounds, "bounds", X86_TRAP_BR, SIGSEGV, 0, 0)
DEFINE_TRAP_NOERR(device_not_available, "unexpected #NM exception", X86_TRAP_NM, SIGFPE, 0, 0)
DEFINE_TRAP_NOERR(coprocessor_error, "fpu exception", X86_TRAP_MF, SIGFPE, 0, 0)
DEFINE_TRAP_NOERR(simd_coprocessor_error, "simd exception", X86_TRAP_XF, SIGFPE, 0, 0)
DEFINE_TRAP(invalid_tss, "invalid TSS", X86_TRAP_TS, SIGSEGV, 0)
DEFINE_TRAP(segment_not_present, "segment not present", X86_TRAP_NP, SIGBUS, 0)
DEFINE_TRAP(alignment_check, "alignment check", X86_TRAP_AC, SIGBUS, BUS_ADRALN)

__frame void exc_invalid_op(struct pt_regs *regs)
{
	if (user_mode(regs))
		user_trap(regs, X86_TRAP_UD, SIGILL, "trap invalid opcode", 0, ILL_ILLOPN, regs->ip);
	else if (report_bug(regs))
		regs->ip += 2;
	else
		die("invalid opcode", regs, 0);
}

__frame void exc_stack_segment(struct pt_regs *regs, unsigned long error_code)
{
	if (user_mode(regs))
		user_trap(regs, X86_TRAP_SS, SIGBUS, "trap stack segment", (long)(int)error_code, 0, 0);
	else
		die("stack segment", regs, error_code);
}

__frame void exc_general_protection(struct pt_regs *regs, unsigned long error_code)
{
	if (user_mode(regs))
		user_trap(regs, X86_TRAP_GP, SIGSEGV, "general protection fault", (long)(int)error_code, 0, 0);
	else if (!fixup_exception(regs, X86_TRAP_GP, error_code, 0))
		die_gp(regs, error_code);
}

__frame void exc_double_fault(struct pt_regs *regs, unsigned long error_code)
{
	double_fault_oops(regs, error_code, read_cr2());
}
