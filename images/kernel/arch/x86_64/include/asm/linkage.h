/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions of assembly files. Mirrors SYM_FUNC_START() and SYM_FUNC_END() of include/linux/linkage.h. */
#ifndef _ASM_LINKAGE_H
#define _ASM_LINKAGE_H

.macro FUNC name
	.globl \name
	.type \name, @function
	.balign 16, 0x90
\name:
.endm
.macro END name
	.size \name, . - \name
.endm

#endif
