/* SPDX-License-Identifier: GPL-2.0-only */
/* Registers as the entry code saves them. Mirrors arch/arm64/include/asm/ptrace.h and stacktrace/frame.h. */
#ifndef _ASM_PTRACE_H
#define _ASM_PTRACE_H

#include <linux/types.h>

#define FRAME_META_TYPE_NONE 0
#define FRAME_META_TYPE_FINAL 1		/* entered from user space: nothing above */
#define FRAME_META_TYPE_PT_REGS 2	/* an exception of the kernel: go on with the saved registers */

struct frame_record {
	u64 fp, lr;
};

/* A record of zeroes says that `type` follows. */
struct frame_record_meta {
	struct frame_record record;
	u64 type;
};

struct pt_regs {
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
	u32 pmr;
	u64 sdei_ttbr1;
	struct frame_record_meta stackframe;
};

#define PSR_MODE_MASK 0xf
#define TASK_SIZE_MAX (1UL << 48)

#define read_sysreg(reg) ({						\
	unsigned long __val;						\
	__asm__ __volatile__("mrs %0, " #reg : "=r"(__val));		\
	__val;								\
})

#define exception_ip(regs) ((regs)->pc)

static __always_inline bool user_mode(struct pt_regs *regs)
{
	return (regs->pstate & PSR_MODE_MASK) == 0;
}

static __always_inline bool is_ttbr0_addr(unsigned long addr)
{
	return addr < TASK_SIZE_MAX;
}

static __always_inline void raw_local_irq_enable(void)
{
	__asm__ __volatile__("msr daifclr, #0xf" ::: "memory");
}

static __always_inline void raw_local_irq_disable(void)
{
	__asm__ __volatile__("msr daifset, #0xf" ::: "memory");
}

/* DAIF_PROCCTX_NOIRQ: an interrupt's handler can be interrupted by debug exceptions and SErrors only */
static __always_inline void local_daif_mask_irq(void)
{
	__asm__ __volatile__("msr daif, %0" :: "r"(0xc0UL) : "memory");
}

/* DAIF as it was where the exception came from */
static __always_inline void local_daif_inherit(struct pt_regs *regs)
{
	__asm__ __volatile__("msr daif, %0" :: "r"(regs->pstate & 0x3c0UL) : "memory");
}

#endif
