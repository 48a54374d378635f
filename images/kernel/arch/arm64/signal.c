// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signal frames of arm64. Mirrors arch/arm64/kernel/signal.c. Left out: 32-bit frames; records of SVE, SME, ZT, TPIDR2,
 * POE, GCS and what does not fit (the CPU is one without them); rseq.
 *
 *	sp -> struct siginfo
 *	      struct ucontext	mask and registers of what was interrupted, records in __reserved[]
 *	      frame record	x29 and x30 of what was interrupted: a stack walk goes on there
 */
#include <linux/lockdep.h>
#include <linux/signal.h>
#include <linux/syscalls.h>
#include <asm/ptrace.h>

#define FPSIMD_MAGIC 0x46508001U
#define ESR_MAGIC 0x45535201U
#define PSR_DAIF 0x3c0UL
#define PSR_MODE32 0x10UL
#define PSR_NZCV (0xfUL << 28)
#define PSR_USER (PSR_NZCV | 1UL << 24 | 1UL << 12 | 3UL << 10)	/* DIT SSBS BTYPE */
#define NO_SYSCALL (-1)
#define __NR_restart_syscall 128

struct _aarch64_ctx {
	u32 magic;
	u32 size;
};

struct user_fpsimd_state {
	u64 vregs[64];
	u32 fpsr;
	u32 fpcr;
} __attribute__((aligned(16)));

struct fpsimd_context {
	struct _aarch64_ctx head;
	u32 fpsr;
	u32 fpcr;
	u64 vregs[64];
};

struct esr_context {
	struct _aarch64_ctx head;
	u64 esr;
};

/* What the kernel writes of __reserved[]: the rest of it stays as it was. */
struct records {
	struct fpsimd_context fpsimd;
	union {
		struct {
			struct esr_context esr;
			struct _aarch64_ctx end;
		} with_esr;
		struct _aarch64_ctx end;
	};
};

struct sigcontext {
	u64 fault_address;
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
	u8 __reserved[4096] __attribute__((aligned(16)));
};

struct ucontext {
	unsigned long uc_flags;
	unsigned long uc_link;
	stack_t uc_stack;
	sigset_t uc_sigmask;
	u8 __unused[128 - sizeof(sigset_t)];
	struct sigcontext uc_mcontext;
};

struct rt_sigframe {
	siginfo_t info;
	struct ucontext uc;
};

#define HEAD_SIZE offsetof(struct ucontext, uc_mcontext.__reserved)

/* entry-fpsimd.S */
void fpsimd_save_state(struct user_fpsimd_state *state);
void fpsimd_load_state(const struct user_fpsimd_state *state);

/* -- making a frame ---------------------------------------------------------------------------------------------- */

/* The registers of user mode are in the CPU: kernel text uses none of them. */
static noinline bool setup_records(struct rt_sigframe *user)
{
	struct user_fpsimd_state state;
	struct records records;
	size_t size = sizeof(records);

	memset(&records, 0, sizeof(records));
	fpsimd_save_state(&state);
	records.fpsimd.head.magic = FPSIMD_MAGIC;
	records.fpsimd.head.size = sizeof(records.fpsimd);
	records.fpsimd.fpsr = state.fpsr;
	records.fpsimd.fpcr = state.fpcr;
	memcpy(records.fpsimd.vregs, state.vregs, sizeof(state.vregs));
	if (current->thread.fault_code) {
		records.with_esr.esr.head.magic = ESR_MAGIC;
		records.with_esr.esr.head.size = sizeof(struct esr_context);
		records.with_esr.esr.esr = current->thread.fault_code;
	} else {
		size = offsetof(struct records, end) + sizeof(records.end);
	}
	return !copy_to_user(user->uc.uc_mcontext.__reserved, &records, size);
}

/* What is in front of the records; a struct of its own, for __reserved[] is too much for a kernel stack. */
struct uc_head {
	unsigned long uc_flags;
	unsigned long uc_link;
	stack_t uc_stack;
	sigset_t uc_sigmask;
	u8 __unused[128 - sizeof(sigset_t)];
	struct {
		u64 fault_address;
		u64 regs[31];
		u64 sp;
		u64 pc;
		u64 pstate;
	} uc_mcontext __attribute__((aligned(16)));
};

_Static_assert(sizeof(struct uc_head) == HEAD_SIZE, "the head of struct ucontext");

static __frame bool setup_rt_frame(struct ksignal *ksig, struct pt_regs *regs)
{
	unsigned long sp = regs->sp, sigtramp = ksig->ka.sa.sa_restorer;
	struct frame_record record = { regs->regs[29], regs->regs[30] }, *next;
	struct rt_sigframe *user;
	struct uc_head uc;
	siginfo_t info;

	if (!(ksig->ka.sa.sa_flags & SA_RESTORER))
		sigtramp = current->mm->vdso_sigtramp;
	if (ksig->ka.sa.sa_flags & SA_ONSTACK && !sas_ss_flags(sp))
		sp = current->sas_ss_sp + current->sas_ss_size;
	next = (struct frame_record *)((sp & -16UL) - sizeof(record));
	user = (struct rt_sigframe *)next - 1;
	memset(&uc, 0, sizeof(uc));
	__save_altstack(&uc.uc_stack, regs->sp);
	uc.uc_sigmask = sigmask_to_save();
	uc.uc_mcontext.fault_address = current->thread.fault_address;
	memcpy(uc.uc_mcontext.regs, regs->regs, sizeof(regs->regs));
	uc.uc_mcontext.sp = regs->sp;
	uc.uc_mcontext.pc = regs->pc;
	uc.uc_mcontext.pstate = regs->pstate;
	if (copy_to_user(next, &record, sizeof(record)) || copy_to_user(&user->uc, &uc, sizeof(uc)) ||
	    !setup_records(user))
		return false;
	if (ksig->ka.sa.sa_flags & SA_SIGINFO) {
		memset(&info, 0, sizeof(info));
		info.info = ksig->info;
		if (copy_to_user(&user->info, &info, sizeof(info)))
			return false;
		regs->regs[1] = (u64)&user->info;
		regs->regs[2] = (u64)&user->uc;
	}
	regs->regs[0] = (u64)ksig->sig;
	regs->regs[29] = (u64)next;
	regs->regs[30] = sigtramp;
	regs->sp = (u64)user;
	regs->pc = ksig->ka.sa.sa_handler;
	return true;
}

static __frame void setup_restart_syscall(struct pt_regs *regs)
{
	regs->regs[8] = __NR_restart_syscall;
}

__frame void arch_do_signal_or_restart(struct pt_regs *regs)
{
	unsigned long continue_addr = 0, restart_addr = 0;
	struct ksignal ksig;
	long retval = 0;

	if (regs->syscallno != NO_SYSCALL) {
		continue_addr = regs->pc;
		restart_addr = continue_addr - 4;
		retval = (long)regs->regs[0];
		regs->syscallno = NO_SYSCALL;	/* once is enough */
		switch (retval) {
		case -ERESTARTNOHAND:
		case -ERESTARTSYS:
		case -ERESTARTNOINTR:
		case -ERESTART_RESTARTBLOCK:
			regs->regs[0] = regs->orig_x0;
			regs->pc = restart_addr;
			break;
		}
	}
	if (get_signal(&ksig)) {
		if (regs->pc == restart_addr &&
		    (retval == -ERESTARTNOHAND || retval == -ERESTART_RESTARTBLOCK ||
		     (retval == -ERESTARTSYS && !(ksig.ka.sa.sa_flags & SA_RESTART)))) {
			regs->regs[0] = (u64)-EINTR;
			regs->pc = continue_addr;
		}
		signal_setup_done(!setup_rt_frame(&ksig, regs), &ksig);
		return;
	}
	if (restart_addr && regs->pc == restart_addr && retval == -ERESTART_RESTARTBLOCK)
		setup_restart_syscall(regs);
	restore_saved_sigmask();
}

/* -- taking a frame back ----------------------------------------------------------------------------------------- */

/* Exactly one fpsimd_context, anything of the known kinds, and an end. */
static noinline bool restore_records(struct rt_sigframe *user)
{
	u8 *base = user->uc.uc_mcontext.__reserved;
	size_t limit = sizeof(user->uc.uc_mcontext.__reserved), offset = 0, at = limit;
	struct user_fpsimd_state state;
	struct fpsimd_context fpsimd;
	struct _aarch64_ctx head;

	for (;;) {
		if (limit - offset < sizeof(head) || offset % 16)
			return false;
		if (copy_from_user(&head, base + offset, sizeof(head)))
			return false;
		if (limit - offset < head.size)
			return false;
		if (!head.magic) {
			if (head.size)
				return false;
			break;
		}
		if (head.magic == FPSIMD_MAGIC) {
			if (at != limit || head.size != sizeof(fpsimd))
				return false;
			at = offset;
		} else if (head.magic != ESR_MAGIC) {
			return false;
		}
		if (head.size < sizeof(head))
			return false;
		offset += head.size;
	}
	if (at == limit || copy_from_user(&fpsimd, base + at, sizeof(fpsimd)))
		return false;
	state.fpsr = fpsimd.fpsr;
	state.fpcr = fpsimd.fpcr;
	memcpy(state.vregs, fpsimd.vregs, sizeof(state.vregs));
	fpsimd_load_state(&state);
	return true;
}

static noinline bool restore_sigframe(struct pt_regs *regs, struct rt_sigframe *user)
{
	struct uc_head uc;

	if (copy_from_user(&uc, &user->uc, sizeof(uc)))
		return false;
	__set_current_blocked(uc.uc_sigmask);
	memcpy(regs->regs, uc.uc_mcontext.regs, sizeof(regs->regs));
	regs->sp = uc.uc_mcontext.sp;
	regs->pc = uc.uc_mcontext.pc;
	regs->pstate = uc.uc_mcontext.pstate;
	regs->syscallno = NO_SYSCALL;
	if (regs->pstate & (PSR_DAIF | PSR_MODE32 | PSR_MODE_MASK)) {	/* valid_user_regs() */
		regs->pstate &= PSR_NZCV;
		return false;
	}
	regs->pstate &= PSR_USER;
	return restore_records(user);
}

__frame long __do_sys_rt_sigreturn(struct pt_regs *regs)
{
	struct rt_sigframe *frame = (struct rt_sigframe *)regs->sp;

	current->restart_block.fn = RESTART_NONE;
	if (regs->sp & 15 || !restore_sigframe(regs, frame) || restore_altstack(&frame->uc.uc_stack, regs->sp)) {
		/* arm64_notify_segfault() */
		force_sig_fault(SIGSEGV, find_vma(current->mm, regs->sp) ? SEGV_ACCERR : SEGV_MAPERR, regs->sp);
		return 0;
	}
	return (long)regs->regs[0];
}
