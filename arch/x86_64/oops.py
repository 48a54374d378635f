"""How an x86-64 kernel prints what killed it: page-fault header, registers, code bytes.

Mirrors arch/x86/mm/fault.c (show_fault_oops, dump_pagetable), arch/x86/kernel/dumpstack.c (show_ip, show_opcodes,
show_iret_regs, __die_header) and arch/x86/kernel/process_64.c (__show_regs). Pure text: callers give registers,
page-table walk, a symbolizer and a byte reader. Leaves out FRED, LDT/TR dumps and SEV's RMP lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from arch.interface import PAGE_SIZE, Walk

Symbolize = Callable[[int], str]  # address -> "name+0xoff/0xsize [module]", or "0x..." where there is no symbol
ReadCode = Callable[[int, int], bytes | None]  # (address, length) -> bytes, None if any byte cannot be read

# page-fault error code (arch/x86/include/asm/trap_pf.h)
PF_PROT, PF_WRITE, PF_USER, PF_RSVD, PF_INSTR, PF_PK, PF_RMP = 1, 2, 4, 8, 0x10, 0x20, 0x80000000

PROLOGUE_BYTES, OPCODE_BYTES = 42, 64
X86_CR4_PKE = 1 << 22


@dataclass(slots=True)
class Regs:
    """struct pt_regs in memory order, lowest address first."""

    r15: int = 0
    r14: int = 0
    r13: int = 0
    r12: int = 0
    bp: int = 0
    bx: int = 0
    r11: int = 0
    r10: int = 0
    r9: int = 0
    r8: int = 0
    ax: int = 0
    cx: int = 0
    dx: int = 0
    si: int = 0
    di: int = 0
    orig_ax: int = 0xFFFF_FFFF_FFFF_FFFF
    ip: int = 0
    cs: int = 0x10
    flags: int = 0
    sp: int = 0
    ss: int = 0x18

    @property
    def user_mode(self) -> bool:
        """user_mode(): the saved CS has privilege level 3."""
        return self.cs & 3 == 3


PT_REGS_FIELDS = tuple(f.name for f in fields(Regs))
PT_REGS_SIZE = 8 * len(PT_REGS_FIELDS)


@dataclass(frozen=True, slots=True)
class SystemRegs:
    """What __show_regs() reads from the CPU beside pt_regs."""

    cr0: int
    cr2: int
    cr3: int
    cr4: int
    fs_base: int = 0
    gs_base: int = 0
    kernel_gs_base: int = 0
    fs: int = 0
    gs: int = 0
    ds: int = 0
    es: int = 0
    pkru: int = 0


def page_fault_header(address: int, error_code: int, regs: Regs, walk: Walk, uid: int) -> list[str]:
    """show_fault_oops(): from the `BUG:` line to the page-table walk.

    `walk` is of the tables in CR3. The NX and SMEP lines depend on what it found, as in the kernel.
    """
    lines = []
    if error_code & PF_INSTR and walk.pa is not None:
        nx = bool(walk.entry >> 63)
        user = bool(walk.entry & 4)
        if nx:
            lines.append(f"kernel tried to execute NX-protected page - exploit attempt? (uid: {uid})")
        elif user:
            lines.append(f"unable to execute userspace code (SMEP?) (uid: {uid})")
    if address < PAGE_SIZE and not regs.user_mode:
        lines.append(f"BUG: kernel NULL pointer dereference, address: {address:016x}")
    else:
        lines.append(f"BUG: unable to handle page fault for address: {address:016x}")
    who = "user" if error_code & PF_USER else "supervisor"
    if error_code & PF_INSTR:
        what = "instruction fetch"
    else:
        what = "write access" if error_code & PF_WRITE else "read access"
    lines.append(f"#PF: {who} {what} in {'user' if regs.user_mode else 'kernel'} mode")
    lines.append(f"#PF: error_code(0x{error_code:04x}) - {_why(error_code)}")
    lines.append(dump_pagetable(walk))
    return lines


def _why(error_code: int) -> str:
    if not error_code & PF_PROT:
        return "not-present page"
    for bit, text in ((PF_RSVD, "reserved bit violation"), (PF_PK, "protection keys violation")):
        if error_code & bit:
            return text
    return "RMP violation" if error_code & PF_RMP else "permissions violation"


def dump_pagetable(walk: Walk) -> str:
    """`PGD .. P4D .. PUD .. PMD .. PTE ..`: a walk that ends before the PTE leaves a blank at the end."""
    out = ""
    for name, entry, _ in walk.levels:
        out += f"{name.upper()} {entry:x} "
        if name == "pgd":  # p4d is folded into pgd with four levels
            out += f"P4D {entry:x} "
    return out[:-1] if walk.levels[-1][0] == "pte" else out


def die_header(text: str, error_code: int, number: int) -> str:
    """__die_header(): `Oops: %s: %04lx [#%d] SMP NOPTI`."""
    return f"Oops: {text}: {error_code:04x} [#{number}] SMP NOPTI"


def opcodes(regs: Regs, read: ReadCode) -> str:
    """show_opcodes(): 64 bytes around ip, 42 before it; user addresses are not read on the kernel's behalf."""
    start = (regs.ip - PROLOGUE_BYTES) & 0xFFFF_FFFF_FFFF_FFFF
    data = None
    if regs.user_mode or start >> 47:
        data = read(start, OPCODE_BYTES)
    if data is None:
        return f"Code: Unable to access opcode bytes at 0x{start:x}."
    text = [f"<{b:02x}>" if i == PROLOGUE_BYTES else f"{b:02x}" for i, b in enumerate(data)]
    return "Code: " + " ".join(text)


def iret_regs(regs: Regs, symbolize: Symbolize, read: ReadCode) -> list[str]:
    """show_iret_regs(): RIP, Code and RSP lines."""
    where = f"0x{regs.ip:x}" if regs.user_mode else symbolize(regs.ip)
    rsp = f"RSP: {regs.ss & 0xFFFF:04x}:{regs.sp:016x} EFLAGS: {regs.flags & 0xFFFFFFFF:08x}"
    if regs.orig_ax != 0xFFFF_FFFF_FFFF_FFFF:
        rsp += f" ORIG_RAX: {regs.orig_ax:016x}"
    return [f"RIP: {regs.cs & 0xFFFF:04x}:{where}", opcodes(regs, read), rsp]


def short_regs(regs: Regs, symbolize: Symbolize, read: ReadCode) -> list[str]:
    """__show_regs(SHOW_REGS_SHORT): what stands inside a call trace for an entry from user space or an exception."""
    rows = (
        ("RAX", regs.ax, "RBX", regs.bx, "RCX", regs.cx),
        ("RDX", regs.dx, "RSI", regs.si, "RDI", regs.di),
        ("RBP", regs.bp, "R08", regs.r8, "R09", regs.r9),
        ("R10", regs.r10, "R11", regs.r11, "R12", regs.r12),
        ("R13", regs.r13, "R14", regs.r14, "R15", regs.r15),
    )
    lines = iret_regs(regs, symbolize, read)
    lines += [f"{a}: {av:016x} {b}: {bv:016x} {c}: {cv:016x}" for a, av, b, bv, c, cv in rows]
    return lines


def all_regs(regs: Regs, system: SystemRegs, symbolize: Symbolize, read: ReadCode) -> list[str]:
    """__show_regs(SHOW_REGS_ALL): the registers and the control registers; PKRU only where CR4.PKE is set."""
    s = system
    lines = short_regs(regs, symbolize, read)
    lines.append(
        f"FS:  {s.fs_base:016x}({s.fs:04x}) GS:{s.gs_base:016x}({s.gs:04x}) knlGS:{s.kernel_gs_base:016x}"
    )
    lines.append(f"CS:  {regs.cs & 0xFFFF:04x} DS: {s.ds:04x} ES: {s.es:04x} CR0: {s.cr0:016x}")
    lines.append(f"CR2: {s.cr2:016x} CR3: {s.cr3:016x} CR4: {s.cr4:016x}")
    if s.cr4 & X86_CR4_PKE:
        lines.append(f"PKRU: {s.pkru:08x}")
    return lines


def non_canonical_text(address: int | None) -> str:
    """exc_general_protection()'s description: the address clause is missing where no operand was decoded."""
    if address is None:
        return "general protection fault"
    return f"general protection fault, probably for non-canonical address 0x{address:x}"
