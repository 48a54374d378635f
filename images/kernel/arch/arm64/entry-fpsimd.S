/* SPDX-License-Identifier: GPL-2.0-only */
/* Floating-point registers to and from memory. Mirrors arch/arm64/kernel/entry-fpsimd.S, without SVE and SME. */
#define __ASSEMBLY__
#include <asm/linkage.h>

	.arch_extension fp
	.arch_extension simd

.macro each_pair insn
	\insn q0, q1, [x0, #16 * 0]
	\insn q2, q3, [x0, #16 * 2]
	\insn q4, q5, [x0, #16 * 4]
	\insn q6, q7, [x0, #16 * 6]
	\insn q8, q9, [x0, #16 * 8]
	\insn q10, q11, [x0, #16 * 10]
	\insn q12, q13, [x0, #16 * 12]
	\insn q14, q15, [x0, #16 * 14]
	\insn q16, q17, [x0, #16 * 16]
	\insn q18, q19, [x0, #16 * 18]
	\insn q20, q21, [x0, #16 * 20]
	\insn q22, q23, [x0, #16 * 22]
	\insn q24, q25, [x0, #16 * 24]
	\insn q26, q27, [x0, #16 * 26]
	\insn q28, q29, [x0, #16 * 28]
	\insn q30, q31, [x0, #16 * 30]
.endm

.text

/* x0 = struct user_fpsimd_state: 32 registers of 16 bytes, fpsr, fpcr */
FUNC fpsimd_save_state
	each_pair stp
	mrs x1, fpsr
	mrs x2, fpcr
	str w1, [x0, #16 * 32]
	str w2, [x0, #16 * 32 + 4]
	ret
END fpsimd_save_state

FUNC fpsimd_load_state
	each_pair ldp
	ldr w1, [x0, #16 * 32]
	ldr w2, [x0, #16 * 32 + 4]
	msr fpsr, x1
	msr fpcr, x2
	ret
END fpsimd_load_state
