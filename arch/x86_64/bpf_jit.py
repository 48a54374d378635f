"""The x86-64 BPF JIT: one BPF function to machine code, as arch/x86/net/bpf_jit_comp.c does it.

    BPF  R0  R1  R2  R3  R4  R5  R6  R7  R8  R9  FP  AX      r11: scratch
    x86  rax rdi rsi rdx rcx r8  rbx r13 r14 r15 rbp r10     r12: arena (kern_vm_start)

Frame: nop5, nop3, push rbp, rbp = rsp, stack, callee-saved registers that are used, `leave; ret`. Sizes of jumps
depend on distances and these on sizes, so passes repeat until nothing moves. Trampolines are in bpf_trampoline.py.
Leaves out: tail calls, private stacks, exception callbacks, indirect-branch tracking, return thunks, BMI2 shifts.
"""

from __future__ import annotations

import struct

from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from arch.interface import ExtableEntry, JitImage, JitRequest

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
REGISTERS = (RAX, RDI, RSI, RDX, RCX, R8, RBX, R13, R14, R15, RBP, R10)
AUX, ARENA_BASE = R11, R12
# offsetof(struct pt_regs, reg) by hardware number
PT_REGS = {
    R15: 0, R14: 8, R13: 16, R12: 24, RBP: 32, RBX: 40, R11: 48, R10: 56, R9: 64, R8: 72, RAX: 80, RCX: 88, RDX: 96,
    RSI: 104, RDI: 112,
}  # fmt: skip
CALLEE_SAVED = ((bpf.R6, RBX), (bpf.R7, R13), (bpf.R8, R14), (bpf.R9, R15))

# exception-table words since Sep 2025: ex_handler_bpf() of arch/x86/net/bpf_jit_comp.c
EX_TYPE_BPF = 7
FIXUP_DONT_CLEAR = 1
FIXUP_ARENA_ACCESS = 1 << 31

VSYSCALL_ADDR = 0xFFFF_FFFF_FF60_0000
TASK_SIZE_MAX = 0x0000_7FFF_FFFF_F000
PAGE_SIZE = 4096
_M64 = 0xFFFF_FFFF_FFFF_FFFF
_MAX_PASSES = 20
_LONGEST = 64  # bytes that one BPF instruction is taken to need at first
_NOSPEC = bpf.BPF_ST | 0xC0  # the verifier's speculation barrier

_ALU_RR = {bpf.BPF_ADD: 0x01, bpf.BPF_SUB: 0x29, bpf.BPF_AND: 0x21, bpf.BPF_OR: 0x09, bpf.BPF_XOR: 0x31}
_ALU_EXT = {bpf.BPF_ADD: 0, bpf.BPF_SUB: 5, bpf.BPF_AND: 4, bpf.BPF_OR: 1, bpf.BPF_XOR: 6}
_SHIFT_EXT = {bpf.BPF_LSH: 4, bpf.BPF_RSH: 5, bpf.BPF_ARSH: 7}
_CONDITIONS = {
    bpf.BPF_JEQ: 0x74, bpf.BPF_JNE: 0x75, bpf.BPF_JSET: 0x75, bpf.BPF_JGT: 0x77, bpf.BPF_JLT: 0x72, bpf.BPF_JGE: 0x73,
    bpf.BPF_JLE: 0x76, bpf.BPF_JSGT: 0x7F, bpf.BPF_JSLT: 0x7C, bpf.BPF_JSGE: 0x7D, bpf.BPF_JSLE: 0x7E,
}  # fmt: skip
# size -> (prefix, opcode bytes, REX.W) of zero-extending and sign-extending loads and of stores
_LOADS = {
    bpf.BPF_B: (b"", b"\x0f\xb6", 1), bpf.BPF_H: (b"", b"\x0f\xb7", 1), bpf.BPF_W: (b"", b"\x8b", 0),
    bpf.BPF_DW: (b"", b"\x8b", 1),
}  # fmt: skip
_LOADS_SX = {bpf.BPF_B: (b"", b"\x0f\xbe", 1), bpf.BPF_H: (b"", b"\x0f\xbf", 1), bpf.BPF_W: (b"", b"\x63", 1)}
_STORES = {
    bpf.BPF_B: (b"", b"\x88", 0), bpf.BPF_H: (b"\x66", b"\x89", 0), bpf.BPF_W: (b"", b"\x89", 0),
    bpf.BPF_DW: (b"", b"\x89", 1),
}  # fmt: skip
_STORE_IMM = {
    bpf.BPF_B: (b"", b"\xc6", 0, 1), bpf.BPF_H: (b"\x66", b"\xc7", 0, 2), bpf.BPF_W: (b"", b"\xc7", 0, 4),
    bpf.BPF_DW: (b"", b"\xc7", 1, 4),
}  # fmt: skip


def _imm8(value: int) -> bool:
    return -128 <= value <= 127


class Assembler:
    """Bytes of one pass; registers are hardware numbers, `w` is REX.W."""

    def __init__(self) -> None:
        self.out = bytearray()

    def raw(self, *data: int) -> None:
        self.out += bytes(data)

    def imm32(self, value: int) -> None:
        self.out += (value & 0xFFFFFFFF).to_bytes(4, "little")

    def rr(self, opcode: bytes, reg: int, rm: int, w: int, *, byte: bool = False) -> None:
        """`opcode` with register operands; `byte`: rm is an 8-bit register."""
        rex = 0x40 | w << 3 | (reg >> 3) << 2 | rm >> 3
        if rex != 0x40 or (byte and rm >= RSP):
            self.raw(rex)
        self.out += opcode
        self.raw(0xC0 | (reg & 7) << 3 | rm & 7)

    def mem(self, form: tuple[bytes, bytes, int], reg: int, base: int, off: int, index: int | None = None) -> None:
        """An instruction with operand [base + index + off]."""
        prefix, opcode, w = form
        self.out += prefix
        rex = 0x40 | w << 3 | (reg >> 3) << 2 | (0 if index is None else index >> 3) << 1 | base >> 3
        if rex != 0x40 or (opcode == b"\x88" and reg >= RSP):  # sil, dil, bpl exist only with REX
            self.raw(rex)
        self.out += opcode
        mod = 0x40 if _imm8(off) else 0x80
        if index is not None:
            self.raw(mod | (reg & 7) << 3 | 4, (index & 7) << 3 | base & 7)
        elif base & 7 == 4:
            self.raw(mod | (reg & 7) << 3 | 4, 0x20 | base & 7)
        else:
            self.raw(mod | (reg & 7) << 3 | base & 7)
        if _imm8(off):
            self.raw(off & 0xFF)
        else:
            self.imm32(off)

    def mov(self, dst: int, src: int, w: int = 1) -> None:
        self.rr(b"\x89", src, dst, w)

    def mov_imm64(self, dst: int, value: int) -> None:
        """The shortest move that gives the unsigned 64-bit `value`."""
        value &= _M64
        if value == 0:
            self.rr(b"\x31", dst, dst, 0)
        elif value < 1 << 32:
            if dst >= 8:
                self.raw(0x41)
            self.raw(0xB8 | dst & 7)
            self.imm32(value)
        elif value >= _M64 - 0x7FFF_FFFF:
            self.rr(b"\xc7", 0, dst, 1)
            self.imm32(value)
        else:
            self.raw(0x48 | dst >> 3, 0xB8 | dst & 7)
            self.out += value.to_bytes(8, "little")

    def alu_imm(self, ext: int, dst: int, imm: int, w: int) -> None:
        """The /ext form of opcodes 83 and 81."""
        if _imm8(imm):
            self.rr(b"\x83", ext, dst, w)
            self.raw(imm & 0xFF)
        else:
            self.rr(b"\x81", ext, dst, w)
            self.imm32(imm)

    def push(self, reg: int) -> None:
        if reg >= 8:
            self.raw(0x41)
        self.raw(0x50 | reg & 7)

    def pop(self, reg: int) -> None:
        if reg >= 8:
            self.raw(0x41)
        self.raw(0x58 | reg & 7)


class _Pass:
    """One walk over the instructions with the offsets that the previous walk found."""

    def __init__(self, request: JitRequest, offsets: list[int]) -> None:
        self.request = request
        self.a = Assembler()
        self.before = offsets
        self.offsets: list[int] = []
        self.extable: list[ExtableEntry] = []
        self.cleanup: int | None = None
        used = {i.dst for i in request.insns} | {i.src for i in request.insns}
        every = request.exception_boundary
        self.saved = [hw for reg, hw in CALLEE_SAVED if every or reg in used]
        self.save_arena = request.arena is not None or every
        self.index = 0

    def run(self) -> None:
        self._prologue()
        for index, insn in enumerate(self.request.insns):
            self.index = index
            self.offsets.append(len(self.a.out))
            second = index > 0 and self.request.insns[index - 1].is_ld_imm64 and insn.code == 0
            if not second:
                self._insn(insn)
        self.offsets.append(len(self.a.out))

    # -- frame -------------------------------------------------------------------------------------------------------

    def _prologue(self) -> None:
        a, request = self.a, self.request
        a.raw(0x0F, 0x1F, 0x44, 0x00, 0x00)  # where a trampoline would be patched in
        a.raw(0x0F, 0x1F, 0x00)  # where a tail-call counter would be cleared
        a.push(RBP)
        a.mov(RBP, RSP)
        depth = request.stack_depth + 7 & -8
        if depth:
            a.raw(0x48, 0x81, 0xEC)
            a.imm32(depth)
        if self.save_arena:
            a.push(ARENA_BASE)
        for reg in self.saved:
            a.push(reg)
        if request.arena is not None:
            a.mov_imm64(ARENA_BASE, request.arena.kern_vm_start)

    def _exit(self) -> None:
        a = self.a
        if self.cleanup is not None:
            self._jump(None, self.cleanup - len(a.out), backward=True)
            return
        self.cleanup = len(a.out)
        for reg in reversed(self.saved):
            a.pop(reg)
        if self.save_arena:
            a.pop(ARENA_BASE)
        a.raw(0xC9, 0xC3)

    # -- jumps and calls ---------------------------------------------------------------------------------------------

    def _jump(self, condition: int | None, distance: int, backward: bool = False) -> None:
        """`distance` is from the start of the jump when `backward`, else from its end."""
        a = self.a
        short = distance - 2 if backward else distance
        if _imm8(short):
            a.raw(0xEB if condition is None else condition, short & 0xFF)
            return
        size = 5 if condition is None else 6
        a.raw(*((0xE9,) if condition is None else (0x0F, condition + 0x10)))
        a.imm32(distance - size if backward else distance)

    def _branch(self, condition: int | None, slots: int) -> None:
        """Jump to the instruction `slots` after the next one, by the offsets of the previous pass."""
        target = self.index + 1 + slots
        if not 0 <= target < len(self.before) - 1:
            raise NotImplementedError(f"x86-64 BPF JIT: instruction {self.index} jumps out of the function")
        self._jump(condition, self.before[target] - self.before[self.index + 1])

    def _call(self, insn: Insn) -> None:
        a = self.a
        target = self.request.call_target(self.index, insn)
        distance = target - (self.request.base + len(a.out) + 5)
        distance = distance + (1 << 63) & _M64
        distance -= 1 << 63
        if not -(1 << 31) <= distance < 1 << 31:
            raise NotImplementedError(f"x86-64 BPF JIT: call of {target:#x} is out of reach of {self.request.base:#x}")
        a.raw(0xE8)
        a.imm32(distance)

    def _jmp(self, insn: Insn) -> None:
        a, op = self.a, insn.op
        if op == bpf.BPF_JA:
            slots = insn.imm if insn.cls == bpf.BPF_JMP32 else insn.off
            if slots:
                self._branch(None, slots)
            return
        if insn.cls == bpf.BPF_JMP and op == bpf.BPF_CALL:
            self._call(insn)
            return
        if insn.cls == bpf.BPF_JMP and op == bpf.BPF_EXIT:
            self._exit()
            return
        if op not in _CONDITIONS:
            raise self._unknown(insn)
        dst, w = REGISTERS[insn.dst], int(insn.cls == bpf.BPF_JMP)
        if insn.is_reg:
            a.rr(b"\x85" if op == bpf.BPF_JSET else b"\x39", REGISTERS[insn.src], dst, w)
        elif op == bpf.BPF_JSET:
            a.rr(b"\xf7", 0, dst, w)
            a.imm32(insn.imm)
        elif insn.imm == 0:
            a.rr(b"\x85", dst, dst, w)
        else:
            a.alu_imm(7, dst, insn.imm, w)
        self._branch(_CONDITIONS[op], insn.off)

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def _alu(self, insn: Insn) -> None:
        a, op, w = self.a, insn.op, int(insn.cls == bpf.BPF_ALU64)
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        if op in _ALU_RR:
            if insn.is_reg:
                a.rr(bytes((_ALU_RR[op],)), src, dst, w)
            else:
                a.alu_imm(_ALU_EXT[op], dst, insn.imm, w)
        elif op == bpf.BPF_MOV:
            self._mov(insn, dst, src, w)
        elif op == bpf.BPF_NEG:
            a.rr(b"\xf7", 3, dst, w)
        elif op in _SHIFT_EXT:
            if insn.is_reg:
                self._shift(_SHIFT_EXT[op], dst, src, w)
            else:
                a.rr(b"\xc1", _SHIFT_EXT[op], dst, w)
                a.raw(insn.imm & 0xFF)
        elif op == bpf.BPF_MUL:
            if insn.is_reg:
                a.rr(b"\x0f\xaf", dst, src, w)
            else:
                a.rr(b"\x69", dst, dst, w)
                a.imm32(insn.imm)
        elif op in (bpf.BPF_DIV, bpf.BPF_MOD):
            self._divide(insn, dst, src, w)
        elif op == bpf.BPF_END:
            self._swap(insn, dst)
        else:
            raise self._unknown(insn)

    def _mov(self, insn: Insn, dst: int, src: int, w: int) -> None:
        a = self.a
        if not insn.is_reg:
            a.mov_imm64(dst, insn.imm & (_M64 if w else 0xFFFFFFFF))
        elif w and insn.off == bpf.BPF_ADDR_SPACE_CAST:
            self._address_space_cast(insn, dst, src)
        elif insn.off == 0:
            a.mov(dst, src, w)
        elif insn.off in (8, 16):
            a.rr(b"\x0f\xbe" if insn.off == 8 else b"\x0f\xbf", dst, src, w, byte=insn.off == 8)
        elif insn.off == 32 and w:
            a.rr(b"\x63", dst, src, 1)
        else:
            raise self._unknown(insn)

    def _address_space_cast(self, insn: Insn, dst: int, src: int) -> None:
        """cast_user: lo == 0 ? 0 : user_vm_start's upper half | lo; cast_kern is a 32-bit move."""
        a, arena = self.a, self.request.arena
        if insn.imm != 1 << 16:
            a.mov(dst, src, 0)
            return
        if arena is None:
            raise NotImplementedError("x86-64 BPF JIT: address-space cast in a function without an arena")
        if dst != src:
            a.mov(dst, src, 0)
        a.rr(b"\xc1", 4, dst, 1)  # shl 32
        a.raw(32)
        a.rr(b"\x81", 1, dst, 1)  # or
        a.imm32(arena.user_vm_start >> 32)
        a.rr(b"\xc1", 0, dst, 1)  # rol 32
        a.raw(32)
        a.rr(b"\x31", AUX, AUX, 1)
        a.rr(b"\x85", dst, dst, 0)
        a.rr(b"\x0f\x44", dst, AUX, 1)  # cmove dst, r11

    def _shift(self, ext: int, dst: int, src: int, w: int) -> None:
        """Counts are in cl only: borrow rcx."""
        a = self.a
        target = AUX if dst == RCX else dst
        if dst == RCX:
            a.mov(AUX, RCX)
        if src != RCX:
            a.push(RCX)
            a.mov(RCX, src)
        a.rr(b"\xd3", ext, target, w)
        if src != RCX:
            a.pop(RCX)
        if dst == RCX:
            a.mov(RCX, AUX)

    def _divide(self, insn: Insn, dst: int, src: int, w: int) -> None:
        """rdx:rax by the divisor; a divisor of zero was dealt with by the verifier's rewriting."""
        a, signed = self.a, insn.off == 1
        if not insn.is_reg:
            a.mov_imm64(AUX, insn.imm & (_M64 if w else 0xFFFFFFFF))
            src = AUX
        elif src in (RAX, RDX):
            a.mov(AUX, src)
            src = AUX
        for reg in (RAX, RDX):
            if dst != reg:
                a.push(reg)
        if dst != RAX:
            a.mov(RAX, dst)
        if signed:
            a.raw(*((0x48, 0x99) if w else (0x99,)))  # cqo, cdq
        else:
            a.rr(b"\x31", RDX, RDX, 0)
        a.rr(b"\xf7", 7 if signed else 6, src, w)
        result = RDX if insn.op == bpf.BPF_MOD else RAX
        if dst != result:
            a.mov(dst, result)
        for reg in (RDX, RAX):
            if dst != reg:
                a.pop(reg)

    def _swap(self, insn: Insn, dst: int) -> None:
        a = self.a
        swap = insn.cls == bpf.BPF_ALU64 or bool(insn.code & bpf.BPF_TO_BE)
        if insn.imm == 16:
            if swap:
                a.raw(0x66)
                a.rr(b"\xc1", 1, dst, 0)
                a.raw(8)
            a.rr(b"\x0f\xb7", dst, dst, 0)
        elif swap:
            a.raw(*([0x40 | int(insn.imm == 64) << 3 | dst >> 3] if insn.imm == 64 or dst >= 8 else []), 0x0F,
                  0xC8 | dst & 7)  # fmt: skip
        elif insn.imm == 32:
            a.mov(dst, dst, 0)

    # -- memory ------------------------------------------------------------------------------------------------------

    def _except(self, start: int, clear: int | None, arena_reg: int | None = None, off: int = 0) -> None:
        """The instruction that began at `start` and ends here may fault; `clear` is the register it would load."""
        end = len(self.a.out)
        fixup = end - start | (FIXUP_DONT_CLEAR if clear is None else PT_REGS[clear]) << 8
        data = EX_TYPE_BPF
        if arena_reg is not None:
            fixup |= PT_REGS[arena_reg] << 16 | FIXUP_ARENA_ACCESS
            data |= (off & 0xFFFF) << 16
        self.extable.append(ExtableEntry(start, end, fixup, data))

    def _load(self, insn: Insn) -> None:
        a, mode = self.a, insn.mode
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        signed = mode in (bpf.BPF_MEMSX, bpf.BPF_PROBE_MEMSX, bpf.BPF_PROBE_MEM32SX)
        form = (_LOADS_SX if signed else _LOADS).get(insn.size)
        if form is None:
            raise self._unknown(insn)
        if mode in (bpf.BPF_MEM, bpf.BPF_MEMSX):
            a.mem(form, dst, src, insn.off)
        elif mode in (bpf.BPF_PROBE_MEM32, bpf.BPF_PROBE_MEM32SX):
            start = len(a.out)
            a.mem(form, dst, src, insn.off, ARENA_BASE)
            self._except(start, dst, src, insn.off)
        elif mode in (bpf.BPF_PROBE_MEM, bpf.BPF_PROBE_MEMSX):
            self._probe(form, dst, src, insn.off)
        else:
            raise self._unknown(insn)

    def _probe(self, form: tuple[bytes, bytes, int], dst: int, src: int, off: int) -> None:
        """A load that may not reach user space: addresses outside the kernel's give 0 without an access."""
        a = self.a
        load = Assembler()
        load.mem(form, dst, src, off)
        clear = Assembler()
        clear.rr(b"\x31", dst, dst, 0)
        clear.raw(0xEB, len(load.out))
        a.mov_imm64(R10, VSYSCALL_ADDR)
        a.mov(AUX, src)
        if off:
            a.alu_imm(0, AUX, off, 1)
        a.rr(b"\x29", R10, AUX, 1)
        a.mov_imm64(R10, TASK_SIZE_MAX + PAGE_SIZE - VSYSCALL_ADDR)
        a.rr(b"\x39", R10, AUX, 1)  # cmp r11, r10
        a.raw(0x77, len(clear.out))  # ja
        a.out += clear.out
        start = len(a.out)
        a.out += load.out
        self._except(start, dst)

    def _store(self, insn: Insn) -> None:
        a, dst, mode = self.a, REGISTERS[insn.dst], insn.mode
        if insn.code == _NOSPEC:
            a.raw(0x0F, 0xAE, 0xE8)  # lfence
            return
        if mode not in (bpf.BPF_MEM, bpf.BPF_PROBE_MEM32):
            raise self._unknown(insn)
        index = ARENA_BASE if mode == bpf.BPF_PROBE_MEM32 else None
        start = len(a.out)
        if insn.cls == bpf.BPF_STX:
            a.mem(_STORES[insn.size], REGISTERS[insn.src], dst, insn.off, index)
        else:
            prefix, opcode, w, size = _STORE_IMM[insn.size]
            a.mem((prefix, opcode, w), 0, dst, insn.off, index)
            a.out += (insn.imm & (1 << 8 * size) - 1).to_bytes(size, "little")
        if index is not None:
            self._except(start, None, dst, insn.off)

    def _atomic(self, insn: Insn) -> None:
        """STX | ATOMIC and PROBE_ATOMIC. A faulting arena atomic keeps all registers, a load-acquire too, and its
        report names the destination register, as in Linux (ex_handler_bpf() sees class STX)."""
        a, op = self.a, insn.imm
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        arena = insn.mode == bpf.BPF_PROBE_ATOMIC
        index, w = (ARENA_BASE if arena else None), int(insn.size == bpf.BPF_DW)
        if op in (bpf.BPF_ADD | bpf.BPF_FETCH,):
            opcode = b"\x0f\xc1"
        elif op == bpf.BPF_XCHG:
            opcode = b"\x87"
        elif op == bpf.BPF_CMPXCHG:
            opcode = b"\x0f\xb1"
        elif op in (bpf.BPF_ADD, bpf.BPF_AND, bpf.BPF_OR, bpf.BPF_XOR):
            opcode = bytes((_ALU_RR[op],))
        else:
            opcode = b""
        start = len(a.out)
        if op == bpf.BPF_LOAD_ACQ:
            a.mem(_LOADS[insn.size], dst, src, insn.off, index)
        elif op == bpf.BPF_STORE_REL:
            a.mem(_STORES[insn.size], src, dst, insn.off, index)
        elif insn.size not in (bpf.BPF_W, bpf.BPF_DW):
            raise self._unknown(insn)
        elif opcode:
            a.mem((b"\xf0", opcode, w), src, dst, insn.off, index)
        elif not arena and op & bpf.BPF_FETCH and op & ~bpf.BPF_FETCH in _ALU_RR:
            self._fetch_loop(op & ~bpf.BPF_FETCH, dst, src, insn.off, w)
        else:
            raise self._unknown(insn)
        if arena:
            self._except(start, None, dst, insn.off)
        if op == bpf.BPF_CMPXCHG and not w:
            a.mov(RAX, RAX, 0)

    def _fetch_loop(self, op: int, dst: int, src: int, off: int, w: int) -> None:
        """fetch_and, fetch_or, fetch_xor: cmpxchg until nobody came between; R0's place is needed meanwhile."""
        a = self.a
        a.mov(AUX, RAX)
        real_src = AUX if src == RAX else src
        real_dst = AUX if dst == RAX else dst
        again = len(a.out)
        a.mem((b"", b"\x8b", w), RAX, real_dst, off)
        a.mov(R10, RAX)
        a.rr(bytes((_ALU_RR[op],)), real_src, R10, w)
        a.mem((b"\xf0", b"\x0f\xb1", w), R10, real_dst, off)
        self._jump(0x75, again - len(a.out), backward=True)
        a.mov(real_src, RAX, w)
        a.mov(RAX, AUX)

    # -- one instruction ---------------------------------------------------------------------------------------------

    def _insn(self, insn: Insn) -> None:
        cls = insn.cls
        if cls in (bpf.BPF_ALU, bpf.BPF_ALU64):
            self._alu(insn)
        elif cls in (bpf.BPF_JMP, bpf.BPF_JMP32):
            self._jmp(insn)
        elif insn.is_ld_imm64:
            callback = insn.src == bpf.BPF_PSEUDO_FUNC
            value = self.request.call_target(self.index, insn) if callback else bpf.imm64(
                insn, self.request.insns[self.index + 1])
            self.a.mov_imm64(REGISTERS[insn.dst], value)
        elif cls == bpf.BPF_LDX:
            self._load(insn)
        elif cls == bpf.BPF_STX and insn.mode in (bpf.BPF_ATOMIC, bpf.BPF_PROBE_ATOMIC):
            self._atomic(insn)
        elif cls in (bpf.BPF_ST, bpf.BPF_STX):
            self._store(insn)
        else:
            raise self._unknown(insn)

    def _unknown(self, insn: Insn) -> NotImplementedError:
        return NotImplementedError(
            f"x86-64 BPF JIT: no translation of instruction {self.index}: "
            f"{struct.pack('<BBhi', insn.code, insn.src << 4 | insn.dst, insn.off, insn.imm).hex()}"
        )


class X86BpfJit:
    """The BpfJit of x86-64."""

    def compile(self, request: JitRequest) -> JitImage:
        """Translate one function. NotImplementedError names the instruction that has no translation."""
        if request.tail_call_reachable:
            raise NotImplementedError("x86-64 BPF JIT: tail calls")
        offsets = [i * _LONGEST for i in range(1, len(request.insns) + 2)]
        for _ in range(_MAX_PASSES):
            attempt = _Pass(request, offsets)
            attempt.run()
            if attempt.offsets == offsets:
                return JitImage(bytes(attempt.a.out), tuple(offsets), tuple(attempt.extable))
            offsets = attempt.offsets
        raise NotImplementedError("x86-64 BPF JIT: the program does not converge")


JIT = X86BpfJit()
