// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signal frames of x86-64. Mirrors arch/x86/kernel/signal.c, signal_64.c and fpu/signal.c. Left out: 32-bit and x32
 * frames, shadow stacks, extended states beyond x87 and SSE (the CPU has none), rseq.
 *
 *	sp -> pretcode		sa_restorer: the handler returns there
 *	      struct ucontext	mask and registers of what was interrupted
 *	      struct siginfo
 *	      ...
 *	      FXSAVE image, XSAVE header, FP_XSTATE_MAGIC2, at a multiple of 64
 *	      red zone		128 bytes that belong to what was interrupted
 */
#include <linux/lockdep.h>
#include <linux/signal.h>
#include <linux/syscalls.h>
#include <asm/ptrace.h>

#define FP_XSTATE_MAGIC1 0x46505853U
#define FP_XSTATE_MAGIC2 0x46505845U
#define XFEATURE_MASK_FPSSE 3UL
#define MXCSR_DEFAULT 0x1f80
#define UC_FP_XSTATE 0x1
#define UC_SIGCONTEXT_SS 0x2
#define UC_STRICT_RESTORE_SS 0x4
#define FIX_EFLAGS (X86_EFLAGS_AC | X86_EFLAGS_RF | 0xdd5UL)	/* OF DF TF SF ZF AF PF CF */
#define REDZONE 128
#define __NR_restart_syscall 219

struct _fpx_sw_bytes {
	u32 magic1;
	u32 extended_size;
	u64 xfeatures;
	u32 xstate_size;
	u32 padding[7];
};

struct fxregs_state {
	u16 cwd, swd, twd, fop;
	u64 rip, rdp;
	u32 mxcsr, mxcsr_mask;
	u32 st_space[32];
	u32 xmm_space[64];
	u32 padding[12];
	struct _fpx_sw_bytes sw_reserved;
};

struct xregs_state {
	struct fxregs_state i387;
	u64 xstate_bv;
	u64 xcomp_bv;
	u64 reserved[6];
	u32 magic2;	/* behind it in a signal frame */
} __attribute__((packed, aligned(64)));

#define XSTATE_SIZE offsetof(struct xregs_state, magic2)
#define MATH_SIZE (XSTATE_SIZE + sizeof(u32))

struct sigcontext {
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	u16 cs, gs, fs, ss;
	u64 err, trapno, oldmask, cr2;
	u64 fpstate;
	u64 reserved1[8];
};

struct ucontext {
	unsigned long uc_flags;
	unsigned long uc_link;
	stack_t uc_stack;
	struct sigcontext uc_mcontext;
	sigset_t uc_sigmask;
};

struct rt_sigframe {
	unsigned long pretcode;
	struct ucontext uc;
	siginfo_t info;
};

/* kcall: the log line of a frame that rt_sigreturn() cannot take back */
void signal_fault_text(struct pt_regs *regs, unsigned long frame);

/* -- floating point ---------------------------------------------------------------------------------------------- */

static __always_inline void fxsave(struct fxregs_state *fx)
{
	__asm__ __volatile__("fxsave64 %0" : "=m"(*fx));
}

static __always_inline void fxrstor(const struct fxregs_state *fx)
{
	__asm__ __volatile__("fxrstor64 %0" :: "m"(*fx));
}

static void fpstate_init(struct fxregs_state *fx)
{
	memset(fx, 0, sizeof(*fx));
	fx->cwd = 0x37f;
	fx->mxcsr = MXCSR_DEFAULT;
}

/* The registers of user mode are in the CPU: kernel text uses none of them. */
static noinline bool copy_fpstate_to_sigframe(unsigned long buf)
{
	struct xregs_state x;

	memset(&x, 0, sizeof(x));
	fxsave(&x.i387);
	x.i387.sw_reserved.magic1 = FP_XSTATE_MAGIC1;
	x.i387.sw_reserved.extended_size = MATH_SIZE;
	x.i387.sw_reserved.xfeatures = XFEATURE_MASK_FPSSE;
	x.i387.sw_reserved.xstate_size = XSTATE_SIZE;
	x.xstate_bv = XFEATURE_MASK_FPSSE;
	x.magic2 = FP_XSTATE_MAGIC2;
	return !copy_to_user((void *)buf, &x, MATH_SIZE);
}

static noinline void fpu__clear_user_states(void)
{
	struct fxregs_state fx __aligned(16);

	fpstate_init(&fx);
	fxrstor(&fx);
}

/* A frame without the two magic numbers is an FXSAVE image alone. */
static noinline bool fpu__restore_sig(unsigned long buf)
{
	struct xregs_state x;
	struct fxregs_state now __aligned(16);
	u64 features = XFEATURE_MASK_FPSSE;
	struct _fpx_sw_bytes *sw = &x.i387.sw_reserved;

	if (!buf) {
		fpu__clear_user_states();
		return true;
	}
	if (copy_from_user(&x.i387, (void *)buf, sizeof(x.i387)))
		return false;
	if (sw->magic1 == FP_XSTATE_MAGIC1 && sw->xstate_size == XSTATE_SIZE && sw->extended_size == MATH_SIZE) {
		if (copy_from_user(&x, (void *)buf, MATH_SIZE))
			return false;
		if (x.magic2 == FP_XSTATE_MAGIC2) {
			if (x.xstate_bv & ~XFEATURE_MASK_FPSSE || x.xcomp_bv)
				return false;
			features = sw->xfeatures & x.xstate_bv;
		}
	}
	fxsave(&now);
	if (x.i387.mxcsr & ~(now.mxcsr_mask ? now.mxcsr_mask : 0xffbf))
		return false;
	fpstate_init(&now);
	if (features & 1) {
		memcpy(&now, &x.i387, offsetof(struct fxregs_state, mxcsr));
		memcpy(now.st_space, x.i387.st_space, sizeof(now.st_space));
	}
	now.mxcsr = x.i387.mxcsr;
	if (features & 2)
		memcpy(now.xmm_space, x.i387.xmm_space, sizeof(now.xmm_space));
	fxrstor(&now);
	return true;
}

/* -- making a frame ---------------------------------------------------------------------------------------------- */

/* Where the frame begins, 0 where it has no room; *fpstate is the place of the floating-point state, filled in. */
static unsigned long get_sigframe(struct ksignal *ksig, struct pt_regs *regs, unsigned long *fpstate)
{
	bool nested = on_sig_stack(regs->sp), entering = false;
	unsigned long sp = regs->sp - REDZONE;

	if (ksig->ka.sa.sa_flags & SA_ONSTACK && !sas_ss_flags(sp)) {
		sp = current->sas_ss_sp + current->sas_ss_size;
		entering = true;
	}
	sp = (sp - MATH_SIZE) & -64UL;
	*fpstate = sp;
	sp = ((sp - sizeof(struct rt_sigframe)) & -16UL) - 8;	/* as after a call */
	if ((nested || entering) && !__on_sig_stack(sp))
		return 0;
	return copy_fpstate_to_sigframe(*fpstate) ? sp : 0;
}

static void setup_sigcontext(struct sigcontext *sc, struct pt_regs *regs, sigset_t mask)
{
	*sc = (struct sigcontext){
		regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
		regs->di, regs->si, regs->bp, regs->bx, regs->dx, regs->ax, regs->cx, regs->sp, regs->ip, regs->flags,
		.cs = (u16)regs->cs, .ss = (u16)regs->ss,
		.err = current->thread.error_code, .trapno = current->thread.trap_nr,
		.oldmask = mask, .cr2 = current->thread.cr2,
	};
}

static __frame bool x64_setup_rt_frame(struct ksignal *ksig, struct pt_regs *regs)
{
	struct rt_sigframe frame, *user;
	unsigned long fpstate, at;

	if (!(ksig->ka.sa.sa_flags & SA_RESTORER))
		return false;
	at = get_sigframe(ksig, regs, &fpstate);
	if (!at)
		return false;
	user = (struct rt_sigframe *)at;
	memset(&frame, 0, sizeof(frame));
	frame.pretcode = ksig->ka.sa.sa_restorer;
	frame.uc.uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
	__save_altstack(&frame.uc.uc_stack, regs->sp);
	frame.uc.uc_sigmask = sigmask_to_save();
	setup_sigcontext(&frame.uc.uc_mcontext, regs, frame.uc.uc_sigmask);
	frame.uc.uc_mcontext.fpstate = fpstate;
	if (copy_to_user(user, &frame, offsetof(struct rt_sigframe, info)))
		return false;
	if (ksig->ka.sa.sa_flags & SA_SIGINFO) {
		frame.info.info = ksig->info;
		if (copy_to_user(&user->info, &frame.info, sizeof(frame.info)))
			return false;
	}
	regs->di = (unsigned long)ksig->sig;
	regs->ax = 0;
	regs->si = (unsigned long)&user->info;
	regs->dx = (unsigned long)&user->uc;
	regs->ip = ksig->ka.sa.sa_handler;
	regs->sp = at;
	regs->cs = __USER_CS;
	return true;
}

static __frame void handle_signal(struct ksignal *ksig, struct pt_regs *regs)
{
	bool failed;

	if ((long)regs->orig_ax >= 0) {
		switch ((long)regs->ax) {
		case -ERESTART_RESTARTBLOCK:
		case -ERESTARTNOHAND:
			regs->ax = (unsigned long)-EINTR;
			break;
		case -ERESTARTSYS:
			if (!(ksig->ka.sa.sa_flags & SA_RESTART)) {
				regs->ax = (unsigned long)-EINTR;
				break;
			}
			/* fallthrough */
		case -ERESTARTNOINTR:
			regs->ax = regs->orig_ax;
			regs->ip -= 2;
			break;
		}
	}
	failed = !x64_setup_rt_frame(ksig, regs);
	if (!failed) {
		regs->flags &= ~(X86_EFLAGS_DF | X86_EFLAGS_RF | X86_EFLAGS_TF);
		fpu__clear_user_states();
	}
	signal_setup_done(failed, ksig);
}

__frame void arch_do_signal_or_restart(struct pt_regs *regs)
{
	struct ksignal ksig;

	if (get_signal(&ksig)) {
		handle_signal(&ksig, regs);
		return;
	}
	if ((long)regs->orig_ax >= 0) {
		switch ((long)regs->ax) {
		case -ERESTARTNOHAND:
		case -ERESTARTSYS:
		case -ERESTARTNOINTR:
			regs->ax = regs->orig_ax;
			regs->ip -= 2;
			break;
		case -ERESTART_RESTARTBLOCK:
			regs->ax = __NR_restart_syscall;
			regs->ip -= 2;
			break;
		}
	}
	restore_saved_sigmask();
}

/* -- taking a frame back ----------------------------------------------------------------------------------------- */

static bool restore_sigcontext(struct pt_regs *regs, const struct sigcontext *sc)
{
	current->restart_block.fn = RESTART_NONE;
	/* compatibility mode and segments of a program's own are not modelled */
	if ((sc->cs | 3) != __USER_CS || (sc->ss | 3) != __USER_DS)
		return false;
	regs->r8 = sc->r8;
	regs->r9 = sc->r9;
	regs->r10 = sc->r10;
	regs->r11 = sc->r11;
	regs->r12 = sc->r12;
	regs->r13 = sc->r13;
	regs->r14 = sc->r14;
	regs->r15 = sc->r15;
	regs->di = sc->di;
	regs->si = sc->si;
	regs->bp = sc->bp;
	regs->bx = sc->bx;
	regs->dx = sc->dx;
	regs->ax = sc->ax;
	regs->cx = sc->cx;
	regs->sp = sc->sp;
	regs->ip = sc->ip;
	regs->flags = (regs->flags & ~FIX_EFLAGS) | (sc->flags & FIX_EFLAGS);
	regs->orig_ax = -1UL;	/* no system call that could be restarted */
	return fpu__restore_sig(sc->fpstate);
}

__frame long __do_sys_rt_sigreturn(struct pt_regs *regs)
{
	unsigned long at = regs->sp - sizeof(unsigned long);	/* the handler has popped pretcode */
	struct rt_sigframe *frame = (struct rt_sigframe *)at;
	struct ucontext uc;

	if (copy_from_user(&uc, &frame->uc, sizeof(uc)))
		goto badframe;
	__set_current_blocked(uc.uc_sigmask);
	if (!restore_sigcontext(regs, &uc.uc_mcontext) || restore_altstack(&frame->uc.uc_stack, regs->sp))
		goto badframe;
	return (long)regs->ax;
badframe:
	signal_fault_text(regs, at);
	force_sig(SIGSEGV);
	return 0;
}
