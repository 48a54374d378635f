"""What an x86-64 CPU does on an exception: vectors, gates, the frame it pushes, the stacks it switches to.

Intel SDM volume 3, chapters 6 and 8, as far as Linux uses it; arch/x86/include/asm/trapnr.h and desc_defs.h for
names. No state and no CPU here: descriptors are built and read as integers.
"""

from __future__ import annotations

import struct

X86_TRAP_DE, X86_TRAP_DB, X86_TRAP_BP, X86_TRAP_UD, X86_TRAP_DF = 0, 1, 3, 6, 8
X86_TRAP_TS, X86_TRAP_NP, X86_TRAP_SS, X86_TRAP_GP, X86_TRAP_PF, X86_TRAP_AC = 10, 11, 12, 13, 14, 17
LOCAL_TIMER_VECTOR, IRQ_WORK_VECTOR = 0xEC, 0xF6  # asm/irq_vectors.h
CALL_FUNCTION_SINGLE_VECTOR, RESCHEDULE_VECTOR = 0xFB, 0xFD
HAS_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17, 21})

KERNEL_CS, KERNEL_DS, USER_DS, USER_CS, TSS_SELECTOR = 0x10, 0x18, 0x2B, 0x33, 0x40
TSS_SIZE = 0x68
TSS_SP0, TSS_IST1 = 4, 0x24
IST_DF = 1

MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_SYSCALL_MASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084
MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE = 0xC0000100, 0xC0000101, 0xC0000102
EFER = 0xD01  # SCE, LME, LMA, NXE
CR0 = 0x80050033  # PG, AM, WP, NE, ET, MP, PE
CR4 = 0x3006A0  # PAE, PGE, OSFXSR, OSXMMEXCPT, SMEP, SMAP and no more: what the engine has

X86_EFLAGS_TF, X86_EFLAGS_IF, X86_EFLAGS_NT, X86_EFLAGS_RF, X86_EFLAGS_AC = 0x100, 0x200, 0x4000, 0x10000, 0x40000
# arch/x86/kernel/cpu/common.c:syscall_init(): CF PF AF ZF SF TF IF DF OF IOPL NT RF AC ID
SYSCALL_MASK = 0x257FD5

# descriptor caches as the engine keeps them: (base, limit, flags)
CS_KERNEL_CACHE = (0, 0xFFFFFFFF, 0x00AF9B00)
SS_KERNEL_CACHE = (0, 0xFFFFFFFF, 0x00CF9300)
CS_USER_CACHE = (0, 0xFFFFFFFF, 0x00AFFB00)
SS_USER_CACHE = (0, 0xFFFFFFFF, 0x00CFF300)


def segment(base: int, limit: int, access: int, flags: int) -> int:
    """An 8-byte segment descriptor."""
    return (
        limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48 | flags << 52
        | (base >> 24 & 0xFF) << 56
    )


def gdt(tss: int) -> bytes:
    """The GDT of one CPU in Linux's order (arch/x86/include/asm/segment.h); `tss` is the address of its TSS."""
    entries = (
        0,
        segment(0, 0xFFFFF, 0x9B, 0xC),
        segment(0, 0xFFFFF, 0x9B, 0xA),
        segment(0, 0xFFFFF, 0x93, 0xC),
        segment(0, 0xFFFFF, 0xFB, 0xC),
        segment(0, 0xFFFFF, 0xF3, 0xC),
        segment(0, 0xFFFFF, 0xFB, 0xA),
        0,
        segment(tss & 0xFFFFFFFF, TSS_SIZE - 1, 0x8B, 0),
        tss >> 32,
    )
    return struct.pack("<10Q", *entries)


def gate(handler: int, dpl: int = 0, ist: int = 0) -> bytes:
    """A 64-bit interrupt gate."""
    low = handler & 0xFFFF | KERNEL_CS << 16 | ist << 32 | (0x8E | dpl << 5) << 40 | (handler >> 16 & 0xFFFF) << 48
    return struct.pack("<QQ", low, handler >> 32)


def frame(vector: int, error: int | None, rip: int, cs: int, rflags: int, rsp: int, ss: int) -> bytes:
    """What the CPU pushes, lowest address first; an error code where the vector has one."""
    words = [rip, cs, rflags, rsp, ss]
    if vector in HAS_ERROR_CODE:
        words.insert(0, error or 0)
    return struct.pack(f"<{len(words)}Q", *words)


# name of the entry point for each vector that Linux's image here handles; (vector, symbol, DPL, IST)
IDT_ENTRIES = (
    (X86_TRAP_DE, "asm_exc_divide_error", 0, 0),
    (X86_TRAP_DB, "asm_exc_debug", 0, 0),
    (X86_TRAP_BP, "asm_exc_int3", 3, 0),
    (X86_TRAP_UD, "asm_exc_invalid_op", 0, 0),
    (X86_TRAP_DF, "asm_exc_double_fault", 0, IST_DF),
    (X86_TRAP_SS, "asm_exc_stack_segment", 0, 0),
    (X86_TRAP_GP, "asm_exc_general_protection", 0, 0),
    (X86_TRAP_PF, "asm_exc_page_fault", 0, 0),
    (LOCAL_TIMER_VECTOR, "asm_sysvec_apic_timer_interrupt", 0, 0),
    (CALL_FUNCTION_SINGLE_VECTOR, "asm_sysvec_call_function_single", 0, 0),
    (IRQ_WORK_VECTOR, "asm_sysvec_irq_work", 0, 0),
    (RESCHEDULE_VECTOR, "asm_sysvec_reschedule_ipi", 0, 0),
)
