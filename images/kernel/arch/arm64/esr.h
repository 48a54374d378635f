/* SPDX-License-Identifier: GPL-2.0-only */
/* The exception syndrome. Mirrors arch/arm64/include/asm/esr.h. */
#ifndef _ESR_H
#define _ESR_H

#define ESR_EC(esr) ((esr) >> 26 & 0x3f)
#define ESR_EC_UNKNOWN 0x00
#define ESR_EC_SVC64 0x15
#define ESR_EC_SYS64 0x18
#define ESR_EC_IABT_LOW 0x20
#define ESR_EC_IABT_CUR 0x21
#define ESR_EC_PC_ALIGN 0x22
#define ESR_EC_DABT_LOW 0x24
#define ESR_EC_DABT_CUR 0x25
#define ESR_EC_SP_ALIGN 0x26
#define ESR_EC_BRK64 0x3c

#define ESR_BRK_COMMENT(esr) ((esr) & 0xffff)
#define ESR_FSC(esr) ((esr) & 0x3f)
#define ESR_FSC_TYPE(esr) ((esr) & 0x3c)
#define ESR_FSC_FAULT 0x04	/* translation */
#define ESR_FSC_ACCESS 0x08
#define ESR_FSC_PERM 0x0c
#define ESR_EC_MASK (0x3fUL << 26)
#define ESR_IL (1UL << 25)
#define ESR_WNR (1UL << 6)
#define ESR_CM (1UL << 8)

#endif
