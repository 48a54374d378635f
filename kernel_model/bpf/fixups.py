"""From a verified program to the one that runs: dead code out, pseudo instructions resolved, accesses rewritten.

Mirrors the passes behind do_check() in kernel/bpf/verifier.c: opt_hard_wire_dead_code_branches, opt_remove_dead_code,
opt_remove_nops, convert_ctx_accesses (its arena and PROBE_MEM part), do_misc_fixups and resolve_pseudo_ldimm64.
Leaves out inlining of helpers, tail calls and context rewriting of other program types than syscall.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from arch.bpf_isa import (
    BPF_ADD,
    BPF_ADDR_SPACE_CAST,
    BPF_ALU,
    BPF_ALU64,
    BPF_ATOMIC,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_DW,
    BPF_EXIT,
    BPF_JA,
    BPF_JCOND,
    BPF_JEQ,
    BPF_JGT,
    BPF_JMP,
    BPF_JMP32,
    BPF_JNE,
    BPF_K,
    BPF_LDX,
    BPF_MEM,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_NEG,
    BPF_PROBE_ATOMIC,
    BPF_PROBE_MEM,
    BPF_PROBE_MEM32,
    BPF_PROBE_MEM32SX,
    BPF_PROBE_MEMSX,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    BPF_REG_AX,
    BPF_REG_FP,
    BPF_ST,
    BPF_STX,
    BPF_SUB,
    BPF_W,
    BPF_X,
    BPF_XOR,
    LD_IMM64,
    R0,
    Insn,
    encode,
    s32,
)
from kernel_model.bpf.program import BPF_F_NO_USER_CONV, LineInfo, ProgSpec, XlatedFunc, XlatedProg

CALL = BPF_JMP | BPF_CALL
# imm of the call that may_goto becomes; src is 0. No helper has a negative id.
TIMED_MAY_GOTO_CALL = -2
BPF_MAX_TIMED_LOOPS = 0xFFFF
_CAST_KERN, _CAST_USER = 1, 1 << 16


@dataclass(frozen=True, slots=True)
class Slot:
    """What verification says of one instruction slot."""

    seen: bool
    arena_access: bool = False  # the memory access's base is an arena pointer
    needs_zext: bool = False  # 64-bit arithmetic on an arena pointer: becomes 32-bit
    untrusted_access: bool = False  # a load through an untrusted BTF pointer: PROBE_MEM


@dataclass(frozen=True, slots=True)
class Function:
    """One function: slots [start, end) of the verified program and the stack it uses."""

    name: str
    start: int
    end: int
    stack_depth: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the runtime put things."""

    map_address: Callable[[int], int]  # index of a map -> its struct bpf_map
    map_value: Callable[[int, int], int]  # (index, offset) -> address of a value
    map_flags: Callable[[int], int]
    aux: int  # the program's struct bpf_prog_aux, for kfunc arguments named __prog
    prog_argument: Callable[[int], int | None]  # kfunc's BTF id -> number of its __prog argument, None without


@dataclass(slots=True)
class _Patch:
    """What one slot becomes; `jump` is the index of the instruction whose offset still means the old target."""

    insns: list[Insn]
    jump: int | None = 0


@dataclass(slots=True)
class _Rewriter:
    spec: ProgSpec
    slots: Sequence[Slot]
    functions: list[Function]
    addresses: Addresses
    arena_flags: int
    extra_stack: dict[int, int] = field(default_factory=dict)  # function index -> bytes for may_goto

    def _function_index(self, slot: int) -> int:
        return max(i for i, f in enumerate(self.functions) if f.start <= slot)

    def patch(self, at: int, insn: Insn) -> _Patch:
        """The replacement of the instruction at slot `at`."""
        if insn.is_ld_imm64:
            return self._ld_imm64(at, insn)
        if insn.cls in (BPF_LDX, BPF_ST, BPF_STX) and self.slots[at].arena_access:
            return _Patch([_arena_access(insn)])
        if insn.cls == BPF_LDX and self.slots[at].untrusted_access:
            return _Patch([_probe_mem(insn)])
        if insn.code == BPF_STX | BPF_ATOMIC | BPF_W and insn.imm == BPF_CMPXCHG:
            # x86-64 leaves the upper half of RAX alone where the comparison succeeds (opt_subreg_zext_lo32_rnd_hi32)
            return _Patch([insn, Insn(BPF_ALU | BPF_MOV | BPF_X, R0, R0, 0, 1)], None)  # BPF_ZEXT_REG
        if insn.cls in (BPF_ALU, BPF_ALU64):
            return self._alu(at, insn)
        if insn.code == BPF_JMP | BPF_JCOND:
            return self._may_goto(at, insn)
        if insn.code == CALL and insn.src == BPF_PSEUDO_KFUNC_CALL:
            return self._kfunc(insn)
        return _Patch([insn])

    def _ld_imm64(self, at: int, insn: Insn) -> _Patch:
        second = self.spec.insns[at + 1].copy()
        if insn.src == BPF_PSEUDO_MAP_FD:
            value = self.addresses.map_address(insn.imm)
        elif insn.src == BPF_PSEUDO_MAP_VALUE:
            value = self.addresses.map_value(insn.imm, second.imm & 0xFFFFFFFF)
        else:
            return _Patch([insn, second], 0 if insn.src == BPF_PSEUDO_FUNC else None)
        first = Insn(LD_IMM64, insn.dst, 0, 0, s32(value))
        return _Patch([first, Insn(0, 0, 0, 0, s32(value >> 32))], None)

    def _alu(self, at: int, insn: Insn) -> _Patch:
        if insn.code == BPF_ALU64 | BPF_MOV | BPF_X and insn.off == BPF_ADDR_SPACE_CAST:
            if insn.imm == _CAST_KERN or self.arena_flags & BPF_F_NO_USER_CONV:
                return _Patch([Insn(BPF_ALU | BPF_MOV | BPF_X, insn.dst, insn.src)], None)
            return _Patch([insn], None)
        if self.slots[at].needs_zext and insn.cls == BPF_ALU64:
            insn = insn.copy()
            insn.code = insn.code & ~7 | BPF_ALU
        if insn.op in (BPF_DIV, BPF_MOD):
            return _Patch(_division(insn), None)
        return _Patch([insn], None)

    def _may_goto(self, at: int, insn: Insn) -> _Patch:
        """The timed form; count and timestamp lie below the function's own stack."""
        index = self._function_index(at)
        depth = self.functions[index].stack_depth + 16
        self.extra_stack[index] = 16
        ax = BPF_REG_AX
        return _Patch([
            Insn(BPF_LDX | BPF_MEM | BPF_DW, ax, BPF_REG_FP, -depth),
            Insn(BPF_JMP | BPF_JEQ | BPF_K, ax, 0, insn.off, 0),
            Insn(BPF_ALU64 | BPF_SUB | BPF_K, ax, 0, 0, 1),
            Insn(BPF_JMP | BPF_JNE | BPF_K, ax, 0, 2, 0),
            Insn(BPF_ALU64 | BPF_MOV | BPF_K, ax, 0, 0, -depth),
            Insn(CALL, 0, 0, 0, TIMED_MAY_GOTO_CALL),
            Insn(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_FP, ax, -depth),
        ], 1)

    def _kfunc(self, insn: Insn) -> _Patch:
        argument = self.addresses.prog_argument(insn.imm)
        if argument is None:
            return _Patch([insn], None)
        aux = self.addresses.aux
        load = [Insn(LD_IMM64, argument + 1, 0, 0, s32(aux)), Insn(0, 0, 0, 0, s32(aux >> 32))]
        return _Patch([*load, insn], None)


def _hard_wired(insn: Insn, at: int, slots: Sequence[Slot]) -> Insn:
    """opt_hard_wire_dead_code_branches(): a conditional jump with one way only becomes unconditional."""
    if insn.cls not in (BPF_JMP, BPF_JMP32) or insn.op in (BPF_CALL, BPF_JA, BPF_EXIT):
        return insn
    if not slots[at + 1].seen:
        return Insn(BPF_JMP | BPF_JA, off=insn.off)
    return insn if slots[at + 1 + insn.off].seen else Insn(BPF_JMP | BPF_JA)


def _surviving(insns: Sequence[Insn], slots: Sequence[Slot]) -> dict[int, Insn]:
    """opt_remove_dead_code() and opt_remove_nops(): slot -> instruction of what is left.

    A jump is a nop where everything it skips is gone at the time the pass meets it; the kernel makes one pass and
    looks back by one instruction only behind a removed may_goto.
    """
    left = {at: _hard_wired(insn, at, slots) for at, insn in enumerate(insns) if slots[at].seen}
    live = list(left)
    k = 0
    while k < len(live):
        at, insn = live[k], left[live[k]]
        may_goto = insn.code == BPF_JMP | BPF_JCOND
        following = live[k + 1] if k + 1 < len(live) else len(insns)
        if not (may_goto or insn.code == BPF_JMP | BPF_JA) or not at < at + 1 + insn.off <= following:
            k += 1
            continue
        del live[k], left[at]
        k -= may_goto and k > 0
    return left


def _arena_access(insn: Insn) -> Insn:
    out = insn.copy()
    mode = {BPF_MEM: BPF_PROBE_MEM32, BPF_MEMSX: BPF_PROBE_MEM32SX, BPF_ATOMIC: BPF_PROBE_ATOMIC}[insn.mode]
    out.code = insn.code & 0x1F | mode
    return out


def _probe_mem(insn: Insn) -> Insn:
    """A load that gives 0 where it would fault."""
    out = insn.copy()
    out.code = insn.code & 0x1F | (BPF_PROBE_MEMSX if insn.mode == BPF_MEMSX else BPF_PROBE_MEM)
    return out


def _division(insn: Insn) -> list[Insn]:
    """x / 0 is 0, x % 0 is x, and INT_MIN / -1 does not trap: what the CPUs do not do by themselves."""
    wide = insn.cls == BPF_ALU64
    jump, alu = (BPF_JMP if wide else BPF_JMP32), (BPF_ALU64 if wide else BPF_ALU)
    dst, src = insn.dst, insn.src
    divide = insn.op == BPF_DIV
    if not insn.is_reg:
        if insn.off == 1 and insn.imm == -1:
            return [Insn(alu | BPF_NEG | BPF_K, dst)] if divide else [Insn(BPF_ALU | BPF_MOV | BPF_K, dst)]
        return [insn]
    if insn.off == 1:
        ax = BPF_REG_AX
        head = [Insn(BPF_ALU64 | BPF_MOV | BPF_X, ax, src), Insn(alu | BPF_ADD | BPF_K, ax, 0, 0, 1)]
        if divide:
            return [*head, Insn(jump | BPF_JGT | BPF_K, ax, 0, 4, 1), Insn(jump | BPF_JEQ | BPF_K, ax, 0, 1, 0),
                    Insn(alu | BPF_MOV | BPF_K, dst), Insn(alu | BPF_NEG | BPF_K, dst),
                    Insn(BPF_JMP | BPF_JA, 0, 0, 1), insn]
        tail = [] if wide else [Insn(BPF_JMP | BPF_JA, 0, 0, 1), Insn(BPF_ALU | BPF_MOV | BPF_X, dst, dst)]
        return [*head, Insn(jump | BPF_JGT | BPF_K, ax, 0, 3, 1),
                Insn(jump | BPF_JEQ | BPF_K, ax, 0, 3 if wide else 4, 1),
                Insn(BPF_ALU | BPF_MOV | BPF_K, dst), Insn(BPF_JMP | BPF_JA, 0, 0, 1), insn, *tail]
    if divide:
        return [Insn(jump | BPF_JNE | BPF_K, src, 0, 2, 0), Insn(BPF_ALU | BPF_XOR | BPF_X, dst, dst),
                Insn(BPF_JMP | BPF_JA, 0, 0, 1), insn]
    if wide:
        return [Insn(jump | BPF_JEQ | BPF_K, src, 0, 1, 0), insn]
    return [Insn(jump | BPF_JEQ | BPF_K, src, 0, 2, 0), insn, Insn(BPF_JMP | BPF_JA, 0, 0, 1),
            Insn(BPF_ALU | BPF_MOV | BPF_X, dst, dst)]


def fix_up(
    spec: ProgSpec, slots: Sequence[Slot], functions: list[Function], addresses: Addresses, arena_map: int | None,
    kfunc_names: dict[int, str] | None = None,
) -> XlatedProg:
    """Rewrite a verified program. `functions` are in order, main first; `arena_map` is the index of its arena."""
    flags = addresses.map_flags(arena_map) if arena_map is not None else 0
    rewriter = _Rewriter(spec, slots, functions, addresses, flags)
    insns = spec.insns
    left = _surviving(insns, slots)
    patches: list[_Patch] = []
    at = 0
    while at < len(insns):
        insn = insns[at]
        width = 2 if insn.is_ld_imm64 else 1
        patches.append(rewriter.patch(at, left[at].copy()) if at in left else _Patch([], None))
        patches.extend(_Patch([], None) for _ in range(width - 1))
        at += width
    for index in rewriter.extra_stack:
        start = functions[index].start
        depth = functions[index].stack_depth + 16
        store = BPF_ST | BPF_MEM | BPF_DW
        head = [Insn(store, BPF_REG_FP, 0, -depth, BPF_MAX_TIMED_LOOPS), Insn(store, BPF_REG_FP, 0, -depth + 8, 0)]
        first = patches[start]
        patches[start] = _Patch(head + first.insns, None if first.jump is None else first.jump + 2)
    return _assemble(spec, patches, functions, rewriter, arena_map is not None, kfunc_names or {})


def _assemble(
    spec: ProgSpec, patches: list[_Patch], functions: list[Function], rewriter: _Rewriter, arena: bool,
    kfunc_names: dict[int, str],
) -> XlatedProg:
    position = [0]
    for patch in patches:
        position.append(position[-1] + len(patch.insns))
    # a jump back to a function's first instruction must not run the set-up of may_goto's counter again
    entry = {functions[i].start: 2 for i in rewriter.extra_stack}
    for old, patch in enumerate(patches):
        if patch.jump is None or not patch.insns:
            continue
        insn = patch.insns[patch.jump]
        here = position[old] + patch.jump
        if insn.is_ld_imm64 or insn.code == CALL and insn.src == BPF_PSEUDO_CALL:
            insn.imm = position[old + 1 + spec.insns[old].imm] - here - 1
        elif insn.cls in (BPF_JMP, BPF_JMP32) and insn.op != BPF_CALL and insn.op != 0x90:
            long = insn.code == BPF_JMP32 | BPF_JA
            target = old + 1 + (insn.imm if long else insn.off)
            new = position[target] + entry.get(target, 0) - here - 1
            if long:
                insn.imm = new
            else:
                insn.off = new
    funcs = []
    for index, function in enumerate(functions):
        low, high = position[function.start], position[function.end]
        body = [insn for patch in patches[function.start : function.end] for insn in patch.insns]
        lines = [
            LineInfo(position[info.insn_off] - low, info.file_name, info.line, info.line_num, info.line_col)
            for info in spec.line_info if function.start <= info.insn_off < function.end
        ]
        depth = function.stack_depth + rewriter.extra_stack.get(index, 0)
        funcs.append(XlatedFunc(function.name, low, body, depth, index > 0, lines))
        assert len(body) == high - low
    return XlatedProg(spec.name, tag(spec.insns), funcs, arena, kfunc_names)


def tag(insns: Sequence[Insn]) -> str:
    """bpf_prog_calc_tag() (since 6.18): 16 hex digits of the SHA-256 over the instructions, map references zeroed."""
    copies = [insn.copy() for insn in insns]
    for at, insn in enumerate(copies):
        if insn.is_ld_imm64 and insn.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
            insn.imm = 0
            copies[at + 1].imm = 0
    return hashlib.sha256(encode(copies)).hexdigest()[:16]
