/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_BUG_H
#define _ASM_BUG_H
#define ASM_BUG "ud2"
#define ASM_UNDEFINED "ud2"
#define ASM_BREAKPOINT "int3"
#endif
