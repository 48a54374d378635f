"""How an arm64 kernel prints what killed it: abort decoding, page-table walk, registers, code words.

Mirrors arch/arm64/mm/fault.c (mem_abort_decode, data_abort_decode, show_pte, die_kernel_fault, fault_info),
arch/arm64/kernel/traps.c (die, dump_kernel_instr), process.c (__show_regs, print_pstate) and traps.c's
esr_class_str. Pure text. Leaves out MTE, pointer-authentication and GCS decoding beyond their columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from arch.interface import Walk

Symbolize = Callable[[int], str]
ReadInsn = Callable[[int], int | None]  # address of a 32-bit instruction -> word, None where unreadable

# traps.c:esr_class_str, as far as a kernel without KVM can meet it
EC_NAMES = {
    0x00: "Unknown/Uncategorized",
    0x01: "WFI/WFE",
    0x07: "ASIMD",
    0x0D: "BTI",
    0x0E: "PSTATE.IL",
    0x11: "SVC (AArch32)",
    0x15: "SVC (AArch64)",
    0x16: "HVC (AArch64)",
    0x17: "SMC (AArch64)",
    0x18: "MSR/MRS (AArch64)",
    0x19: "SVE",
    0x1C: "FPAC",
    0x20: "IABT (lower EL)",
    0x21: "IABT (current EL)",
    0x22: "PC Align",
    0x24: "DABT (lower EL)",
    0x25: "DABT (current EL)",
    0x26: "SP Align",
    0x2D: "Guarded Control Stack",
    0x2F: "SError",
    0x30: "Breakpoint (lower EL)",
    0x31: "Breakpoint (current EL)",
    0x32: "Software Step (lower EL)",
    0x33: "Software Step (current EL)",
    0x34: "Watchpoint (lower EL)",
    0x35: "Watchpoint (current EL)",
    0x3C: "BRK (AArch64)",
}
UNRECOGNIZED_EC = "UNRECOGNIZED EC"

_LEVELLED = {0x00: "address size fault", 0x04: "translation fault", 0x08: "access flag fault", 0x0C: "permission fault"}
_FAULT_NAMES = {
    0x00: "ttbr address size fault",
    0x10: "synchronous external abort",
    0x11: "synchronous tag check fault",
    0x13: "level -1 (translation table walk)",
    0x14: "level 0 (translation table walk)",
    0x15: "level 1 (translation table walk)",
    0x16: "level 2 (translation table walk)",
    0x17: "level 3 (translation table walk)",
    0x18: "synchronous parity or ECC error",
    0x21: "alignment fault",
    0x29: "level -1 address size fault",
    0x2B: "level -1 translation fault",
    0x30: "TLB conflict abort",
    0x31: "Unsupported atomic hardware update fault",
    0x34: "implementation fault (lockdown abort)",
    0x35: "implementation fault (unsupported exclusive)",
    0x3D: "section domain fault",
    0x3E: "page domain fault",
}


def fault_name(esr: int) -> str:
    """fault_info[esr & 63].name."""
    code = esr & 0x3F
    if code in _FAULT_NAMES:
        return _FAULT_NAMES[code]
    if code < 0x10:
        return f"level {code & 3} {_LEVELLED[code & ~3]}"
    return f"unknown {code}"


@dataclass(slots=True)
class Regs:
    """struct pt_regs: x0..x30, sp, pc, pstate."""

    x: list[int] = field(default_factory=lambda: [0] * 31)
    sp: int = 0
    pc: int = 0
    pstate: int = 0

    @property
    def user_mode(self) -> bool:
        """user_mode(): the saved PSTATE is EL0's."""
        return self.pstate & 0xF == 0

    @property
    def fp(self) -> int:
        """x29, the frame pointer."""
        return self.x[29]

    @property
    def lr(self) -> int:
        """x30, the link register."""
        return self.x[30]


def mem_abort_decode(esr: int) -> list[str]:
    """mem_abort_decode(): `Mem abort info:` and, for data aborts, `Data abort info:`."""
    ec = esr >> 26 & 0x3F
    lines = [
        "Mem abort info:",
        f"  ESR = 0x{esr:016x}",
        f"  EC = 0x{ec:02x}: {EC_NAMES.get(ec, UNRECOGNIZED_EC)}, IL = {32 if esr & 1 << 25 else 16} bits",
        f"  SET = {esr >> 11 & 3}, FnV = {esr >> 10 & 1}",
        f"  EA = {esr >> 9 & 1}, S1PTW = {esr >> 7 & 1}",
        f"  FSC = 0x{esr & 0x3F:02x}: {fault_name(esr)}",
    ]
    if ec in (0x24, 0x25):
        lines += _data_abort_decode(esr)
    return lines


def _data_abort_decode(esr: int) -> list[str]:
    iss2 = esr >> 32 & 0xFFFFFF
    lines = ["Data abort info:"]
    if esr & 1 << 24:
        lines += [
            f"  Access size = {1 << (esr >> 22 & 3)} byte(s)",
            f"  SSE = {esr >> 21 & 1}, SRT = {esr >> 16 & 31}",
            f"  SF = {esr >> 15 & 1}, AR = {esr >> 14 & 1}",
        ]
    else:
        lines.append(f"  ISV = 0, ISS = 0x{esr & 0xFFFFFF:08x}, ISS2 = 0x{iss2:08x}")
    lines += [
        f"  CM = {esr >> 8 & 1}, WnR = {esr >> 6 & 1}, TnD = {iss2 >> 10 & 1}, TagAccess = {iss2 >> 9 & 1}",
        f"  GCS = {iss2 >> 8 & 1}, Overlay = {iss2 >> 6 & 1}, DirtyBit = {iss2 >> 5 & 1}, Xs = {iss2 & 31}",
    ]
    return lines


def show_pte(address: int, walk: Walk | None, pgdp: int, kernel: bool, va_bits: int = 48) -> list[str]:
    """show_pte(). `walk` is None for a user address while the kernel's own mm is active."""
    if not kernel and address >> va_bits:
        return [f"[{address:016x}] address between user and kernel address ranges"]
    if walk is None:
        return [f"[{address:016x}] user address but active_mm is swapper"]
    who = "swapper" if kernel else "user"
    lines = [f"{who} pgtable: 4k pages, {va_bits}-bit VAs, pgdp={pgdp:016x}"]
    parts = []
    for name, entry, _ in walk.levels:
        parts.append(f"{name}={entry:016x}")
        if name == "pgd" and entry & 1:  # p4d is folded into pgd with four levels
            parts.append(f"p4d={entry:016x}")
    lines.append(f"[{address:016x}] " + ", ".join(parts))
    return lines


def fault_header(
    message: str, address: int, esr: int, walk: Walk | None, pgdp: int, kernel: bool
) -> list[str]:
    """die_kernel_fault() up to, not including, die(): `message` is e.g. "paging request"."""
    lines = [f"Unable to handle kernel {message} at virtual address {address:016x}"]
    return lines + mem_abort_decode(esr) + show_pte(address, walk, pgdp, kernel)


def die_header(text: str, esr: int, number: int) -> str:
    """die(): `Internal error: %s: %016lx [#%d]  SMP` (two blanks since the PREEMPT word moved to the CPU line)."""
    return f"Internal error: {text}: {esr:016x} [#{number}]  SMP"


_BTYPE = ("--", "jc", "-c", "j-")


def pstate_line(pstate: int) -> str:
    """print_pstate() for AArch64: upper case or `+` where the bit is set (D, A, I, F: where masked)."""

    def flag(bit: int, letter: str) -> str:
        return letter.upper() if pstate >> bit & 1 else letter.lower()

    def sign(bit: int) -> str:
        return "+" if pstate >> bit & 1 else "-"

    nzcv = "".join(flag(bit, letter) for bit, letter in zip((31, 30, 29, 28), "nzcv", strict=True))
    daif = "".join(flag(bit, letter) for bit, letter in zip((9, 8, 7, 6), "daif", strict=True))
    return (
        f"pstate: {pstate:08x} ({nzcv} {daif} {sign(22)}PAN {sign(23)}UAO {sign(25)}TCO {sign(24)}DIT "
        f"{sign(12)}SSBS BTYPE={_BTYPE[pstate >> 10 & 3]})"
    )


def show_regs(regs: Regs, symbolize: Symbolize) -> list[str]:
    """__show_regs(): pstate, pc, lr, sp and x29..x0, three to a line."""
    if regs.user_mode:
        lines = [pstate_line(regs.pstate), f"pc : {regs.pc:016x}", f"lr : {regs.lr:016x}"]
    else:
        lines = [pstate_line(regs.pstate), f"pc : {symbolize(regs.pc)}", f"lr : {symbolize(regs.lr)}"]
    lines.append(f"sp : {regs.sp:016x}")
    for top in range(29, -1, -3):
        lines.append(" ".join(f"x{i:<2d}: {regs.x[i]:016x}" for i in range(top, top - 3, -1)))
    return lines


def dump_kernel_instr(pc: int, read: ReadInsn) -> str:
    """dump_kernel_instr(): four words before pc and, in parentheses, the one at it."""
    words = []
    for i in range(-4, 1):
        word = read(pc + 4 * i)
        if word is None:
            words.append("(????????)" if i == 0 else "????????")
        else:
            words.append(f"({word:08x})" if i == 0 else f"{word:08x}")
    return "Code: " + " ".join(words) + " "
