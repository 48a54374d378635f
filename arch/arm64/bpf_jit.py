"""BPF to A64.

Mirrors arch/arm64/net/bpf_jit_comp.c (Linux 6.18) in register map, frame, addressing of arena memory and exception
table; with FEAT_LSE, BTI and PAC hints. Leaves out tail calls, exceptions (bpf_throw), private stacks, constant
blinding, trampolines and the inlined helpers: a program that needs the first three is refused.

    R0      x7        R6..R9  x19..x22      AX      x9              tail-call counter  x26
    R1..R5  x0..x4    R10     x25           temps   x10 x11 x12     arena base         x28

Frame, from high to low addresses: {x29, lr}, {counter, x26}, callee-saved pairs, (x25 points here) BPF stack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from arch.arm64 import insn as a64
from arch.bpf_isa import (
    BPF_ADD,
    BPF_ADDR_SPACE_CAST,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_ATOMIC,
    BPF_B,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_DW,
    BPF_END,
    BPF_EXIT,
    BPF_FETCH,
    BPF_H,
    BPF_JA,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JLE,
    BPF_JLT,
    BPF_JMP,
    BPF_JMP32,
    BPF_JNE,
    BPF_JSET,
    BPF_JSGE,
    BPF_JSGT,
    BPF_JSLE,
    BPF_JSLT,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_LSH,
    BPF_MEM,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_PROBE_ATOMIC,
    BPF_PROBE_MEM,
    BPF_PROBE_MEM32,
    BPF_PROBE_MEM32SX,
    BPF_PROBE_MEMSX,
    BPF_PSEUDO_FUNC,
    BPF_REG_AX,
    BPF_REG_FP,
    BPF_RSH,
    BPF_ST,
    BPF_STORE_REL,
    BPF_STX,
    BPF_SUB,
    BPF_W,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    LD_IMM64,
    Insn,
    imm64,
)
from arch.interface import ExtableEntry, JitImage, JitRequest

BPF_ADDR_PERCPU = -1  # off of ALU64|MOV|X: add this CPU's offset (include/linux/filter.h)

_REG = {0: 7, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 19, 7: 20, 8: 21, 9: 22, BPF_REG_FP: 25, BPF_REG_AX: 9}
_TMP, _TMP2, _TMP3 = 10, 11, 12
_R0, _FP, _TCC, _X27, _ARENA = 7, 25, 26, 27, 28

EX_TYPE_BPF = 1
_DONT_CLEAR = 5  # x5 holds no BPF register
_ARENA_ACCESS = 1 << 21

_SIZE = {BPF_B: 0, BPF_H: 1, BPF_W: 2, BPF_DW: 3}
_ALU_REG = {
    BPF_ADD: a64.ADD, BPF_SUB: a64.SUB, BPF_AND: a64.AND, BPF_OR: a64.ORR, BPF_XOR: a64.EOR,
    BPF_LSH: a64.LSLV, BPF_RSH: a64.LSRV, BPF_ARSH: a64.ASRV,
}  # fmt: skip
_SHIFT_IMM = {BPF_LSH: a64.lsl, BPF_RSH: a64.lsr, BPF_ARSH: a64.asr}
_CONDITION = {
    BPF_JEQ: a64.EQ, BPF_JNE: a64.NE, BPF_JSET: a64.NE, BPF_JGT: a64.HI, BPF_JGE: a64.CS, BPF_JLT: a64.CC,
    BPF_JLE: a64.LS, BPF_JSGT: a64.GT, BPF_JSGE: a64.GE, BPF_JSLT: a64.LT, BPF_JSLE: a64.LE,
}  # fmt: skip
_ATOMIC_OP = {BPF_ADD: a64.LDADD, BPF_AND: a64.LDCLR, BPF_OR: a64.LDSET, BPF_XOR: a64.LDEOR}
_ARENA_MODES = (BPF_PROBE_MEM32, BPF_PROBE_MEM32SX, BPF_PROBE_ATOMIC)


def _unknown(index: int, insn: Insn) -> NotImplementedError:
    return NotImplementedError(f"arm64 JIT: insn {index}: no translation of opcode {insn.code:#04x} imm {insn.imm:#x}")


class _Function:
    """Translation of one function: words in order, branches to BPF instructions filled in at the end."""

    def __init__(self, request: JitRequest) -> None:
        if request.exception_boundary:
            raise NotImplementedError("arm64 JIT: exception boundaries (bpf_throw) are not translated")
        if request.tail_call_reachable:
            raise NotImplementedError("arm64 JIT: tail calls are not translated")
        self.request = request
        self.words: list[int] = []
        self.starts: list[int] = []  # word index of each BPF instruction
        self.branches: list[tuple[int, int, Callable[[int], int]]] = []  # (word, BPF target, encoder of the offset)
        self.extable: list[ExtableEntry] = []
        self.stack = (request.stack_depth + 15) & ~15
        self.saved = self._saved_pairs()

    def _saved_pairs(self) -> list[tuple[int, int]]:
        """find_used_callee_regs(): those that the program uses, in pairs; an odd one goes with the zero register."""
        used = {r for insn in self.request.insns for r in (insn.dst, insn.src)}
        registers = [_REG[r] for r in (6, 7, 8, 9) if r in used]
        if BPF_REG_FP in used or self.stack:
            registers.append(_FP)
        if self.request.arena is not None:
            registers += [_ARENA, _X27]
        if len(registers) % 2:
            registers.append(a64.ZR)
        return list(zip(registers[::2], registers[1::2], strict=True))

    def emit(self, *words: int) -> None:
        self.words.extend(words)

    def to_insn(self, target: int, encode: Callable[[int], int]) -> None:
        """A branch to BPF instruction `target`; encode(offset in bytes) makes the word."""
        self.branches.append((len(self.words), target, encode))
        self.words.append(0)

    # -- frame -------------------------------------------------------------------------------------------------------

    def prologue(self) -> None:
        """build_prologue(): patchable entry, frame record, tail-call counter, saved registers, stack, arena base."""
        self.emit(a64.BTI_JC, a64.mov(1, 9, a64.LR), a64.NOP, a64.PACIASP)
        self.emit(a64.push(a64.FP, a64.LR), a64.mov_sp(a64.FP, a64.SP))
        if self.request.is_subprog:
            self.emit(a64.push(_TCC, _TCC), a64.NOP)
        else:
            self.emit(a64.push(a64.ZR, _TCC), a64.mov_sp(_TCC, a64.SP))
        self.emit(a64.BTI_J)
        self.emit(*(a64.push(*pair) for pair in self.saved))
        if any(_FP in pair for pair in self.saved):
            self.emit(a64.mov_sp(_FP, a64.SP))
        if self.stack:
            self.emit(a64.sub_imm(1, a64.SP, a64.SP, self.stack))
        if self.request.arena is not None:
            self.emit(*a64.mov_imm(1, _ARENA, self.request.arena.kern_vm_start))

    def epilogue(self) -> None:
        """build_epilogue()."""
        if self.stack:
            self.emit(a64.add_imm(1, a64.SP, a64.SP, self.stack))
        self.emit(*(a64.pop(*pair) for pair in reversed(self.saved)))
        self.emit(a64.pop(a64.ZR, _TCC), a64.pop(a64.FP, a64.LR), a64.mov(1, 0, _R0), a64.AUTIASP, a64.RET)

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def alu(self, index: int, insn: Insn) -> None:
        sf, dst = int(insn.cls == BPF_ALU64), _REG[insn.dst]
        if insn.op == BPF_MOV:
            self._move(sf, dst, insn)
        elif insn.op == BPF_NEG:
            self.emit(a64.reg3(a64.SUB, sf, dst, a64.ZR, dst))
        elif insn.op == BPF_END:
            self._byte_swap(index, sf, dst, insn)
        elif insn.op in (BPF_MUL, BPF_DIV, BPF_MOD):
            self._multiply(sf, dst, insn)
        elif insn.is_reg:
            self.emit(a64.reg3(_ALU_REG[insn.op], sf, dst, dst, _REG[insn.src]))
        elif insn.op in _SHIFT_IMM:
            self.emit(_SHIFT_IMM[insn.op](sf, dst, dst, insn.imm))
        elif insn.op in (BPF_ADD, BPF_SUB) and a64.fits_imm12(abs(insn.imm)):
            add = (insn.op == BPF_ADD) == (insn.imm >= 0)
            self.emit((a64.add_imm if add else a64.sub_imm)(sf, dst, dst, abs(insn.imm)))
        elif insn.op in _ALU_REG:
            self.emit(*a64.mov_imm(sf, _TMP, insn.imm), a64.reg3(_ALU_REG[insn.op], sf, dst, dst, _TMP))
        else:
            raise _unknown(index, insn)

    def _move(self, sf: int, dst: int, insn: Insn) -> None:
        if not insn.is_reg:
            self.emit(*a64.mov_imm(sf, dst, insn.imm))
            return
        src = _REG[insn.src]
        if insn.off == 0:
            self.emit(a64.mov(sf, dst, src))
        elif sf and insn.off == BPF_ADDR_SPACE_CAST:
            self._cast(dst, src, insn.imm)
        elif sf and insn.off == BPF_ADDR_PERCPU:
            self.emit(a64.mrs_tpidr_el1(_TMP), a64.reg3(a64.ADD, 1, dst, src, _TMP))
        else:
            self.emit(a64.sign_extend(sf, dst, src, insn.off))

    def _cast(self, dst: int, src: int, imm: int) -> None:
        """addr_space_cast: to as(1) the upper half of user_vm_start joins a low half that is not zero."""
        if imm != 1 << 16:
            self.emit(a64.mov(0, dst, src))
            return
        arena = self.request.arena
        if arena is None:
            raise NotImplementedError("arm64 JIT: addr_space_cast without an arena")
        self.emit(a64.mov(0, _TMP, src))
        self.emit(*a64.mov_imm(1, dst, arena.user_vm_start >> 32 << 32))
        self.emit(a64.cbz(1, _TMP, 8), a64.reg3(a64.ORR, 1, _TMP, dst, _TMP), a64.mov(1, dst, _TMP))

    def _byte_swap(self, index: int, sf: int, dst: int, insn: Insn) -> None:
        swap = bool(sf or insn.code & BPF_X)  # ALU64: bswap; ALU: to big endian
        if insn.imm == 16:
            self.emit(*([a64.rev16(dst, dst)] if swap else []), a64.zero_extend(dst, dst, 16))
        elif insn.imm == 32:
            self.emit(a64.rev(0, dst, dst) if swap else a64.mov(0, dst, dst))
        elif insn.imm == 64:
            self.emit(*([a64.rev(1, dst, dst)] if swap else []))
        else:
            raise _unknown(index, insn)

    def _multiply(self, sf: int, dst: int, insn: Insn) -> None:
        src = _REG[insn.src]
        if not insn.is_reg:
            self.emit(*a64.mov_imm(sf, _TMP, insn.imm))
            src = _TMP
        if insn.op == BPF_MUL:
            self.emit(a64.mul(sf, dst, dst, src))
            return
        divide = a64.SDIV if insn.off == 1 else a64.UDIV
        if insn.op == BPF_DIV:
            self.emit(a64.reg3(divide, sf, dst, dst, src))
        else:
            self.emit(a64.reg3(divide, sf, _TMP2, dst, src), a64.msub(sf, dst, dst, _TMP2, src))

    # -- jumps and calls ---------------------------------------------------------------------------------------------

    def jump(self, index: int, insn: Insn) -> None:
        last = len(self.request.insns) - 1
        if insn.op == BPF_JA:
            distance = insn.imm if insn.cls == BPF_JMP32 else insn.off
            self.to_insn(index + 1 + distance, a64.branch)
        elif insn.op == BPF_CALL and insn.code == BPF_JMP | BPF_CALL:
            self._call(index, insn)
        elif insn.op == BPF_EXIT and insn.cls == BPF_JMP:
            if index != last:
                self.to_insn(last + 1, a64.branch)
        elif insn.op in _CONDITION:
            self._compare(insn)
            condition = _CONDITION[insn.op]
            self.to_insn(index + 1 + insn.off, lambda offset: a64.branch_cond(condition, offset))
        else:
            raise _unknown(index, insn)

    def _compare(self, insn: Insn) -> None:
        sf, dst, src = int(insn.cls == BPF_JMP), _REG[insn.dst], _TMP
        if insn.is_reg:
            src = _REG[insn.src]
        elif insn.op != BPF_JSET and a64.fits_imm12(abs(insn.imm)):
            self.emit(a64.cmp_imm(sf, dst, insn.imm) if insn.imm >= 0 else a64.cmn_imm(sf, dst, -insn.imm))
            return
        else:
            self.emit(*a64.mov_imm(sf, _TMP, insn.imm))
        self.emit(a64.reg3(a64.ANDS if insn.op == BPF_JSET else a64.SUBS, sf, a64.ZR, dst, src))

    def _call(self, index: int, insn: Insn) -> None:
        target = self.request.call_target(index, insn)
        self.emit(*a64.mov_kernel_address(_TMP, target), a64.blr(_TMP))
        if not self.request.timed_may_goto or target != self.request.timed_may_goto:
            self.emit(a64.mov(1, _R0, 0))

    # -- memory ------------------------------------------------------------------------------------------------------

    def _base(self, insn: Insn, register: int) -> int:
        """Register that the access goes through: arena accesses add the arena's base first."""
        if insn.mode not in _ARENA_MODES or (insn.cls == BPF_LDX and insn.mode == BPF_PROBE_MEMSX):
            return register
        self.emit(a64.reg3(a64.ADD, 1, _TMP2, register, _ARENA))
        return _TMP2

    def _guard(self, insn: Insn, destination: int, arena_register: int | None) -> None:
        """add_exception_handler() for the access just emitted."""
        at = (len(self.words) - 1) * 4
        fixup = destination << 27
        if arena_register is not None:
            fixup |= _ARENA_ACCESS | arena_register << 16 | insn.off & 0xFFFF
        self.extable.append(ExtableEntry(at, at + 4, fixup, EX_TYPE_BPF))

    def load(self, index: int, insn: Insn) -> None:
        if insn.mode not in (BPF_MEM, BPF_MEMSX, BPF_PROBE_MEM, BPF_PROBE_MEMSX, BPF_PROBE_MEM32, BPF_PROBE_MEM32SX):
            raise _unknown(index, insn)
        signed = insn.mode in (BPF_MEMSX, BPF_PROBE_MEMSX, BPF_PROBE_MEM32SX)
        size, dst, src = _SIZE[insn.size], _REG[insn.dst], _REG[insn.src]
        base = self._base(insn, src)
        word = a64.load(size, dst, base, insn.off, signed=signed)
        if word is None:
            self.emit(*a64.mov_imm(1, _TMP, insn.off))
            word = a64.load_reg(size, dst, base, _TMP, signed=signed)
        self.emit(word)
        if insn.mode not in (BPF_MEM, BPF_MEMSX):
            self._guard(insn, dst, src if insn.mode in _ARENA_MODES else None)

    def store(self, index: int, insn: Insn) -> None:
        if insn.mode not in (BPF_MEM, BPF_PROBE_MEM32):
            raise _unknown(index, insn)
        size, dst, value = _SIZE[insn.size], _REG[insn.dst], _REG[insn.src]
        base = self._base(insn, dst)
        if insn.cls == BPF_ST:
            self.emit(*a64.mov_imm(1, _TMP, insn.imm))
            value = _TMP
        word = a64.store(size, value, base, insn.off)
        if word is None:
            self.emit(*a64.mov_imm(1, _TMP3, insn.off))
            word = a64.store_reg(size, value, base, _TMP3)
        self.emit(word)
        if insn.mode == BPF_PROBE_MEM32:
            self._guard(insn, _DONT_CLEAR, dst)

    def atomic(self, index: int, insn: Insn) -> None:
        """emit_lse_atomic() and emit_atomic_ld_st(); faults in arena memory are reported as writes at dst, always."""
        size, dst, src = _SIZE[insn.size], _REG[insn.dst], _REG[insn.src]
        place = src if insn.imm == BPF_LOAD_ACQ else dst
        if insn.off:
            self.emit(*a64.mov_imm(1, _TMP, insn.off), a64.reg3(a64.ADD, 1, _TMP, _TMP, place))
            place = _TMP
        if insn.mode == BPF_PROBE_ATOMIC:
            self.emit(a64.reg3(a64.ADD, 1, _TMP, place, _ARENA))
            place = _TMP
        self.emit(*self._atomic_words(index, insn, size, place))
        if insn.mode == BPF_PROBE_ATOMIC:
            self._guard(insn, _DONT_CLEAR, dst)

    @staticmethod
    def _atomic_words(index: int, insn: Insn, size: int, place: int) -> list[int]:
        dst, src = _REG[insn.dst], _REG[insn.src]
        if insn.imm == BPF_LOAD_ACQ:
            return [a64.ldar(size, dst, place)]
        if insn.imm == BPF_STORE_REL:
            return [a64.stlr(size, src, place)]
        if insn.size not in (BPF_W, BPF_DW):
            raise _unknown(index, insn)
        if insn.imm == BPF_XCHG:
            return [a64.atomic(a64.SWP, size, src, src, place, ordered=True)]
        if insn.imm == BPF_CMPXCHG:
            return [a64.casal(size, _R0, src, place)]
        op, fetch = insn.imm & ~BPF_FETCH, bool(insn.imm & BPF_FETCH)
        if op not in _ATOMIC_OP:
            raise _unknown(index, insn)
        words, operand = [], src
        if op == BPF_AND:  # only "clear bits" exists
            words.append(a64.reg3(a64.ORN, size & 1, _TMP2, a64.ZR, src))
            operand = _TMP2
        return [*words, a64.atomic(_ATOMIC_OP[op], size, operand, src if fetch else a64.ZR, place, ordered=fetch)]

    # -- all of it ---------------------------------------------------------------------------------------------------

    def _load_imm64(self, index: int, insn: Insn) -> None:
        if insn.src == BPF_PSEUDO_FUNC:  # a subprogram's address changes between passes
            self.emit(*a64.mov_fixed(_REG[insn.dst], self.request.call_target(index, insn)))
        else:
            self.emit(*_mov64(_REG[insn.dst], imm64(insn, self.request.insns[index + 1])))

    def translate(self) -> JitImage:
        self.prologue()
        second_slot = False
        for index, insn in enumerate(self.request.insns):
            self.starts.append(len(self.words))
            if second_slot:
                second_slot = False
            elif insn.code == LD_IMM64:
                self._load_imm64(index, insn)
                second_slot = True
            else:
                self._one(index, insn)
        self.starts.append(len(self.words))
        self.epilogue()
        for at, target, encode in self.branches:
            self.words[at] = encode((self.starts[target] - at) * 4)
        code = struct.pack(f"<{len(self.words)}I", *self.words)
        return JitImage(code, tuple(4 * start for start in self.starts), tuple(self.extable))

    def _one(self, index: int, insn: Insn) -> None:
        if insn.cls in (BPF_ALU, BPF_ALU64):
            self.alu(index, insn)
        elif insn.cls in (BPF_JMP, BPF_JMP32):
            self.jump(index, insn)
        elif insn.cls == BPF_LDX:
            self.load(index, insn)
        elif insn.cls == BPF_STX and insn.mode in (BPF_ATOMIC, BPF_PROBE_ATOMIC):
            self.atomic(index, insn)
        elif insn.cls in (BPF_ST, BPF_STX):
            self.store(index, insn)
        else:
            raise _unknown(index, insn)


def _mov64(register: int, value: int) -> list[int]:
    return a64.mov_imm(1, register, value)


class Arm64Jit:
    """bpf_int_jit_compile() for one function."""

    def compile(self, request: JitRequest) -> JitImage:
        """Translate. Raises NotImplementedError naming the instruction where there is no translation."""
        try:
            return _Function(request).translate()
        except ValueError as error:  # an operand or a distance that does not fit
            raise NotImplementedError(f"arm64 JIT: {error}") from None


JIT = Arm64Jit()
