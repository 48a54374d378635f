/* SPDX-License-Identifier: GPL-2.0-only */
/* Offsets in struct pt_regs for assembly; asm/ptrace.h holds the C view. */
#define S_LR 240
#define S_SP 248
#define S_PC 256
#define S_PSTATE 264
#define S_ORIG_X0 272
#define S_SYSCALLNO 280
#define S_STACKFRAME 296
#define S_STACKFRAME_TYPE 312
#define PT_REGS_SIZE 320
#define FRAME_META_TYPE_FINAL 1
#define FRAME_META_TYPE_PT_REGS 2
#define THREAD_SHIFT 14
#define IRQ_STACK_SIZE 16384
#define OVERFLOW_STACK_SIZE 4096
