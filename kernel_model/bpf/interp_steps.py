"""What each BPF instruction does to registers and memory, bound once to a Python function.

Mirrors the instructions of ___bpf_prog_run() (kernel/bpf/core.c), and for arena accesses and address-space casts, which
Linux leaves to JITs, what their machine code does. Calls and exits are the interpreter's (interp.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from arch.interface import JitArena
from kernel_model.errors import NotModelledError
from kernel_model.mm.access import GuestAddressError

U64 = 0xFFFF_FFFF_FFFF_FFFF
_M32 = 0xFFFF_FFFF
_TASK_SIZE_MAX = 0x0000_7FFF_FFFF_F000
_VSYSCALL_ADDR = 0xFFFF_FFFF_FF60_0000
_PAGE_SIZE = 4096
_NOSPEC = bpf.BPF_ST | 0xC0


class Memory(Protocol):
    """Kernel virtual memory; GuestAddressError where nothing is mapped."""

    def read(self, va: int, length: int) -> bytes:
        """`length` bytes at `va`."""
        ...

    def write(self, va: int, data: bytes) -> None:
        """Store `data` at `va`."""
        ...


class ArenaFault(Exception):
    """An arena access of the program met no page; it goes on behind the access."""

    def __init__(self, slot: int, address: int, write: bool) -> None:
        super().__init__(slot, address, write)
        self.slot, self.address, self.write = slot, address, write


Step = Callable[[list[int]], int]  # of R0 to R10 and BPF_REG_AX to the next slot


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _divide(a: int, b: int, bits: int, signed: bool) -> tuple[int, int]:
    """Quotient and remainder towards zero; by zero: 0 and the dividend."""
    if signed:
        a, b = _signed(a, bits), _signed(b, bits)
    if b == 0:
        return 0, a
    quotient = abs(a) // abs(b)
    if (a < 0) != (b < 0):
        quotient = -quotient
    return quotient, a - quotient * b


_ALU: dict[int, Callable[[int, int, int], int]] = {
    bpf.BPF_ADD: lambda a, b, n: a + b,
    bpf.BPF_SUB: lambda a, b, n: a - b,
    bpf.BPF_MUL: lambda a, b, n: a * b,
    bpf.BPF_OR: lambda a, b, n: a | b,
    bpf.BPF_AND: lambda a, b, n: a & b,
    bpf.BPF_XOR: lambda a, b, n: a ^ b,
    bpf.BPF_LSH: lambda a, b, n: a << (b & n - 1),
    bpf.BPF_RSH: lambda a, b, n: a >> (b & n - 1),
    bpf.BPF_ARSH: lambda a, b, n: _signed(a, n) >> (b & n - 1),
    bpf.BPF_NEG: lambda a, b, n: -a,
}
_ATOMICS = frozenset(
    {bpf.BPF_LOAD_ACQ, bpf.BPF_STORE_REL, bpf.BPF_XCHG, bpf.BPF_CMPXCHG}
    | {op | fetch for op in (bpf.BPF_ADD, bpf.BPF_AND, bpf.BPF_OR, bpf.BPF_XOR) for fetch in (0, bpf.BPF_FETCH)}
)
_COMPARE: dict[int, Callable[[int, int, int], bool]] = {
    bpf.BPF_JEQ: lambda a, b, n: a == b,
    bpf.BPF_JNE: lambda a, b, n: a != b,
    bpf.BPF_JSET: lambda a, b, n: a & b != 0,
    bpf.BPF_JGT: lambda a, b, n: a > b,
    bpf.BPF_JGE: lambda a, b, n: a >= b,
    bpf.BPF_JLT: lambda a, b, n: a < b,
    bpf.BPF_JLE: lambda a, b, n: a <= b,
    bpf.BPF_JSGT: lambda a, b, n: _signed(a, n) > _signed(b, n),
    bpf.BPF_JSGE: lambda a, b, n: _signed(a, n) >= _signed(b, n),
    bpf.BPF_JSLT: lambda a, b, n: _signed(a, n) < _signed(b, n),
    bpf.BPF_JSLE: lambda a, b, n: _signed(a, n) <= _signed(b, n),
}


class Binder:
    """Makes steps of one program's instructions."""

    def __init__(
        self, insns: Sequence[Insn], memory: Memory, arena: JitArena | None,
        function_address: Callable[[int], int] | None,
    ) -> None:
        """`function_address` gives what kernel functions call a subprogram by, from the slot where it begins."""
        self._insns, self._memory, self._arena = insns, memory, arena
        self._function_address = function_address

    def bind(self, slot: int) -> Step | None:
        """The step of the instruction in `slot`; None for calls and exits. Raises NotModelledError."""
        insn = self._insns[slot]
        cls = insn.cls
        if insn.is_ld_imm64:
            value, dst = bpf.imm64(insn, self._insns[slot + 1]), insn.dst
            if insn.src == bpf.BPF_PSEUDO_FUNC:
                if self._function_address is None:
                    raise NotModelledError("the address of a function of a program that nobody placed")
                value = self._function_address(slot + insn.imm + 1)

            def load(r: list[int]) -> int:
                r[dst] = value
                return slot + 2

            return load
        if cls in (bpf.BPF_ALU, bpf.BPF_ALU64):
            return self._alu(slot, insn)
        if cls in (bpf.BPF_JMP, bpf.BPF_JMP32):
            return self._jump(slot, insn)
        if cls == bpf.BPF_LDX:
            return self._load(slot, insn)
        if cls == bpf.BPF_STX and insn.mode in (bpf.BPF_ATOMIC, bpf.BPF_PROBE_ATOMIC):
            return self._atomic(slot, insn)
        if cls in (bpf.BPF_ST, bpf.BPF_STX):
            return self._store(slot, insn)
        raise self._unknown(slot, insn)

    def _unknown(self, slot: int, insn: Insn) -> NotModelledError:
        return NotModelledError(f"BPF interpreter: no meaning for instruction {slot}: {insn.encode().hex()}")

    def _alu(self, slot: int, insn: Insn) -> Step:
        op, dst, src, following = insn.op, insn.dst, insn.src, slot + 1
        bits = 64 if insn.cls == bpf.BPF_ALU64 else 32
        mask, is_reg, constant = (1 << bits) - 1, insn.is_reg, insn.imm & (1 << bits) - 1
        if op == bpf.BPF_MOV:
            return self._mov(slot, insn, mask)
        if op == bpf.BPF_END:
            return self._swap(slot, insn)
        if op in (bpf.BPF_DIV, bpf.BPF_MOD):
            which, signed = (0 if op == bpf.BPF_DIV else 1), insn.off == 1

            def divide(r: list[int]) -> int:
                r[dst] = _divide(r[dst] & mask, r[src] & mask if is_reg else constant, bits, signed)[which] & mask
                return following

            return divide
        function = _ALU.get(op)
        if function is None:
            raise self._unknown(slot, insn)
        if is_reg:

            def by_register(r: list[int]) -> int:
                r[dst] = function(r[dst] & mask, r[src] & mask, bits) & mask
                return following

            return by_register

        def by_constant(r: list[int]) -> int:
            r[dst] = function(r[dst] & mask, constant, bits) & mask
            return following

        return by_constant

    def _mov(self, slot: int, insn: Insn, mask: int) -> Step:
        dst, src, off, following = insn.dst, insn.src, insn.off, slot + 1
        if not insn.is_reg:
            constant = insn.imm & mask

            def constant_to(r: list[int]) -> int:
                r[dst] = constant
                return following

            return constant_to
        if off == bpf.BPF_ADDR_SPACE_CAST and mask == U64:
            upper = self._arena.user_vm_start & ~_M32 if self._arena is not None and insn.imm == 1 << 16 else 0

            def cast(r: list[int]) -> int:
                low = r[src] & _M32
                r[dst] = upper | low if low else 0
                return following

            return cast
        if off not in (0, 8, 16, 32):
            raise self._unknown(slot, insn)

        def move(r: list[int]) -> int:
            r[dst] = (_signed(r[src], off) if off else r[src]) & mask
            return following

        return move

    def _swap(self, slot: int, insn: Insn) -> Step:
        dst, size, following = insn.dst, insn.imm // 8, slot + 1
        swap = insn.cls == bpf.BPF_ALU64 or bool(insn.code & bpf.BPF_TO_BE)

        def end(r: list[int]) -> int:
            low = r[dst] & (1 << 8 * size) - 1
            r[dst] = int.from_bytes(low.to_bytes(size, "little"), "big") if swap else low
            return following

        return end

    def _jump(self, slot: int, insn: Insn) -> Step | None:
        op, dst, src, following = insn.op, insn.dst, insn.src, slot + 1
        if op == bpf.BPF_JA:
            target = following + (insn.imm if insn.cls == bpf.BPF_JMP32 else insn.off)
            return lambda r: target
        if insn.cls == bpf.BPF_JMP and op in (bpf.BPF_EXIT, bpf.BPF_CALL):
            return None
        compare = _COMPARE.get(op)
        if compare is None:
            raise self._unknown(slot, insn)
        bits = 64 if insn.cls == bpf.BPF_JMP else 32
        mask, target, is_reg, constant = (1 << bits) - 1, following + insn.off, insn.is_reg, insn.imm & (1 << bits) - 1

        def branch(r: list[int]) -> int:
            return target if compare(r[dst] & mask, r[src] & mask if is_reg else constant, bits) else following

        return branch

    # -- memory ------------------------------------------------------------------------------------------------------

    def _arena_base(self, slot: int, insn: Insn) -> int:
        if self._arena is None:
            raise NotModelledError(f"BPF interpreter: arena access without an arena at {slot}: {insn.encode().hex()}")
        return self._arena.kern_vm_start

    def _load(self, slot: int, insn: Insn) -> Step:
        memory, mode = self._memory, insn.mode
        dst, src, off, size, following = insn.dst, insn.src, insn.off, bpf.SIZE_BYTES[insn.size], slot + 1
        signed = mode in (bpf.BPF_MEMSX, bpf.BPF_PROBE_MEMSX, bpf.BPF_PROBE_MEM32SX)

        def value(address: int) -> int:
            return int.from_bytes(memory.read(address & U64, size), "little", signed=signed) & U64

        if mode in (bpf.BPF_MEM, bpf.BPF_MEMSX):

            def plain(r: list[int]) -> int:
                r[dst] = value(r[src] + off)
                return following

            return plain
        if mode in (bpf.BPF_PROBE_MEM, bpf.BPF_PROBE_MEMSX):

            def probe(r: list[int]) -> int:
                address = (r[src] + off) & U64
                good = _TASK_SIZE_MAX + _PAGE_SIZE < address < _VSYSCALL_ADDR
                try:
                    r[dst] = value(address) if good else 0
                except GuestAddressError:
                    r[dst] = 0
                return following

            return probe
        if mode not in (bpf.BPF_PROBE_MEM32, bpf.BPF_PROBE_MEM32SX):
            raise self._unknown(slot, insn)
        base = self._arena_base(slot, insn)

        def arena(r: list[int]) -> int:
            try:
                r[dst] = value(base + r[src] + off)
            except GuestAddressError:
                address, r[dst] = (r[src] + off) & U64, 0
                raise ArenaFault(slot, address, False) from None
            return following

        return arena

    def _store(self, slot: int, insn: Insn) -> Step:
        memory, mode = self._memory, insn.mode
        dst, src, off, size, following = insn.dst, insn.src, insn.off, bpf.SIZE_BYTES[insn.size], slot + 1
        if insn.code == _NOSPEC:
            return lambda r: following
        if mode not in (bpf.BPF_MEM, bpf.BPF_PROBE_MEM32):
            raise self._unknown(slot, insn)
        is_reg, mask = insn.cls == bpf.BPF_STX, (1 << 8 * size) - 1
        constant = (insn.imm & mask).to_bytes(size, "little")
        base = self._arena_base(slot, insn) if mode == bpf.BPF_PROBE_MEM32 else None

        def store(r: list[int]) -> int:
            data = (r[src] & mask).to_bytes(size, "little") if is_reg else constant
            if base is None:
                memory.write((r[dst] + off) & U64, data)
                return following
            try:
                memory.write((base + r[dst] + off) & U64, data)
            except GuestAddressError:
                raise ArenaFault(slot, (r[dst] + off) & U64, True) from None
            return following

        return store

    def _atomic(self, slot: int, insn: Insn) -> Step:
        """Read-modify-write; nothing comes between because one host thread runs everything. A fault leaves the
        registers alone, of a load-acquire too, and is reported as a write at the destination register: class STX."""
        memory, op = self._memory, insn.imm
        dst, src, off, size, following = insn.dst, insn.src, insn.off, bpf.SIZE_BYTES[insn.size], slot + 1
        mask, bits = (1 << 8 * size) - 1, 8 * size
        base = self._arena_base(slot, insn) if insn.mode == bpf.BPF_PROBE_ATOMIC else 0
        alu = _ALU.get(op & ~bpf.BPF_FETCH)
        if op not in _ATOMICS:
            raise self._unknown(slot, insn)

        def modify(r: list[int]) -> None:
            if op == bpf.BPF_LOAD_ACQ:
                r[dst] = int.from_bytes(memory.read((base + r[src] + off) & U64, size), "little")
                return
            address = (base + r[dst] + off) & U64
            new = r[src] & mask
            if op != bpf.BPF_STORE_REL:
                old = int.from_bytes(memory.read(address, size), "little")
                if op == bpf.BPF_CMPXCHG:
                    new = new if old == r[0] & mask else old
                elif op != bpf.BPF_XCHG and alu is not None:
                    new = alu(old, new, bits) & mask
            memory.write(address, new.to_bytes(size, "little"))
            if op == bpf.BPF_CMPXCHG:
                r[0] = old
            elif op & bpf.BPF_FETCH:
                r[src] = old

        def step(r: list[int]) -> int:
            try:
                modify(r)
            except GuestAddressError:
                if insn.mode != bpf.BPF_PROBE_ATOMIC:
                    raise
                raise ArenaFault(slot, (r[dst] + off) & U64, True) from None
            return following

        return step
