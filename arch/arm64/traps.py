"""arm64 exceptions: syndrome classes, vector offsets, PSTATE and system register values that Linux sets.

Mirrors arch/arm64/include/asm/esr.h, ptrace.h, sysreg.h (INIT_SCTLR_EL1_MMU_ON) and arch/arm64/mm/proc.S. Leaves
out FIQs, SErrors and EL2.
"""

from __future__ import annotations

# offsets from VBAR_EL1: where the exception comes from, and its kind
VECTOR_EL1T, VECTOR_EL1H, VECTOR_EL0_64 = 0x000, 0x200, 0x400
VECTOR_SYNC, VECTOR_IRQ = 0x00, 0x80
IPI_RESCHEDULE, IPI_CALL_FUNC = 0, 1  # the SGIs of arch/arm64/kernel/smp.c
VIRTUAL_TIMER_PPI = 27  # interrupt number that Arm's base system architecture gives it

EC_UNKNOWN, EC_SVC64, EC_IABT_LOW, EC_IABT_CUR, EC_PC_ALIGN = 0x00, 0x15, 0x20, 0x21, 0x22
EC_DABT_LOW, EC_DABT_CUR, EC_SP_ALIGN, EC_BRK64 = 0x24, 0x25, 0x26, 0x3C

PSR_D, PSR_A, PSR_I, PSR_F = 1 << 9, 1 << 8, 1 << 7, 1 << 6
PSR_DAIF = PSR_D | PSR_A | PSR_I | PSR_F
PSR_PAN = 1 << 22
PSR_NZCV = 0xF << 28
PSR_MODE_EL0T, PSR_MODE_EL1T, PSR_MODE_EL1H = 0x0, 0x4, 0x5

SCTLR_M, SCTLR_C, SCTLR_SA, SCTLR_SA0, SCTLR_I = 1 << 0, 1 << 2, 1 << 3, 1 << 4, 1 << 12
SCTLR_SED, SCTLR_DZE, SCTLR_UCT, SCTLR_NTWE, SCTLR_SPAN, SCTLR_UCI = 1 << 8, 1 << 14, 1 << 15, 1 << 18, 1 << 23, 1 << 26
SCTLR_RES1 = 1 << 11 | 1 << 20 | 1 << 22 | 1 << 28 | 1 << 29
# SPAN clear: taking an exception to EL1 sets PSTATE.PAN
SCTLR_EL1 = (
    SCTLR_M | SCTLR_C | SCTLR_SA | SCTLR_SA0 | SCTLR_SED | SCTLR_I | SCTLR_DZE | SCTLR_UCT | SCTLR_NTWE | SCTLR_UCI
    | SCTLR_RES1
)  # fmt: skip
MAIR_EL1 = 0x0000_0004_0044_FFFF  # attributes 0..4: normal, normal tagged, non-cacheable, nGnRnE, nGnRE
# 48-bit addresses, 4 KiB granules, inner shareable write-back walks, 16-bit ASIDs, TBI0
TCR_EL1 = 16 | 16 << 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30 | 5 << 32 | 1 << 37
CPACR_FPEN = 3 << 20
