/* SPDX-License-Identifier: GPL-2.0-only */
/* Immediates of brk: arch/arm64/include/asm/brk-imm.h */
#ifndef _ASM_BUG_H
#define _ASM_BUG_H
#define BUG_BRK_IMM 0x800
#define ASM_BUG "brk #0x800"
#define ASM_UNDEFINED "udf #0"
#define ASM_BREAKPOINT "brk #0x123"
#endif
