// SPDX-License-Identifier: GPL-2.0-only
/* Exceptions other than page faults. Mirrors arch/x86/kernel/traps.c. */
#include <linux/bpf.h>
#include <asm/ptrace.h>

#define X86_TRAP_GP 13

/* kcalls: texts, and what becomes of the task */
void die(const char *str, struct pt_regs *regs, long err);
void die_gp(struct pt_regs *regs, long err);
bool report_bug(struct pt_regs *regs);	/* true: a WARN, go on behind the ud2 */
void double_fault_oops(struct pt_regs *regs, long err, unsigned long cr2);
void send_trap_signal(struct pt_regs *regs, int sig, int code);

/* Traps that this kernel text does not cause by itself: a signal for user mode, the end for the kernel. */
#define DEFINE_TRAP(name, text, sig, code)					\
	__frame void exc_##name(struct pt_regs *regs, unsigned long error_code)	\
	{									\
		if (user_mode(regs))						\
			send_trap_signal(regs, sig, code);			\
		else								\
			die(text, regs, (long)(int)error_code);			\
	}
#define DEFINE_TRAP_NOERR(name, text, sig, code)				\
	__frame void exc_##name(struct pt_regs *regs)				\
	{									\
		if (user_mode(regs))						\
			send_trap_signal(regs, sig, code);			\
		else								\
			die(text, regs, 0);					\
	}

DEFINE_TRAP_NOERR(nmi, "NMI", SIGBUS, 0)
DEFINE_TRAP_NOERR(overflow, "overflow", SIGSEGV, 0)
DEFINE_TRAP_NOERR(bounds, "bounds", SIGSEGV, 0)
DEFINE_TRAP_NOERR(device_not_available, "unexpected #NM exception", SIGFPE, 0)
DEFINE_TRAP_NOERR(coprocessor_error, "fpu exception", SIGFPE, 0)
DEFINE_TRAP_NOERR(simd_coprocessor_error, "simd exception", SIGFPE, 0)
DEFINE_TRAP(invalid_tss, "invalid TSS", SIGSEGV, 0)
DEFINE_TRAP(segment_not_present, "segment not present", SIGBUS, 0)
DEFINE_TRAP(alignment_check, "alignment check", SIGBUS, 1)

__frame void exc_divide_error(struct pt_regs *regs)
{
	if (user_mode(regs))
		send_trap_signal(regs, SIGFPE, 1);
	else
		die("divide error", regs, 0);
}

__frame void exc_debug(struct pt_regs *regs)
{
	if (user_mode(regs))
		send_trap_signal(regs, SIGTRAP, 1);
	else
		die("debug", regs, 0);
}

__frame void exc_int3(struct pt_regs *regs)
{
	if (user_mode(regs))
		send_trap_signal(regs, SIGTRAP, 1);
	else
		die("int3", regs, 0);
}

__frame void exc_invalid_op(struct pt_regs *regs)
{
	if (user_mode(regs))
		send_trap_signal(regs, SIGILL, 2);
	else if (report_bug(regs))
		regs->ip += 2;
	else
		die("invalid opcode", regs, 0);
}

__frame void exc_stack_segment(struct pt_regs *regs, unsigned long error_code)
{
	if (user_mode(regs))
		send_trap_signal(regs, SIGBUS, 0);
	else
		die("stack segment", regs, error_code);
}

__frame void exc_general_protection(struct pt_regs *regs, unsigned long error_code)
{
	if (user_mode(regs))
		send_trap_signal(regs, SIGSEGV, 0x80);
	else if (!fixup_exception(regs, X86_TRAP_GP, error_code, 0))
		die_gp(regs, error_code);
}

__frame void exc_double_fault(struct pt_regs *regs, unsigned long error_code)
{
	double_fault_oops(regs, error_code, read_cr2());
}
