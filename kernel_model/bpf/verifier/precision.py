"""Precision: which scalars' exact values a proof depended on.

Mirrors mark_chain_precision(), backtrack_insn(), propagate_precision() (kernel/bpf/verifier.c, 6.18). Walks back
over the instructions of the current path and its checkpoints; only checkpoints get marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.verifier import kinds, log
from kernel_model.bpf.verifier.regs import SCALAR_VALUE, Reg
from kernel_model.bpf.verifier.state import (
    INSN_F_DST_REG_STACK,
    INSN_F_SRC_REG_STACK,
    INSN_F_STACK_ACCESS,
    MAIN_FUNC,
    Jump,
    State,
)

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_ARGS = 0x3E  # R1..R5


class _Unsupported(Exception):
    """Backtracking cannot tell: everything must count as precise."""


class Backtrack:
    """struct backtrack_state: registers and slots, per frame, whose origin is still sought."""

    __slots__ = ("frame", "regs", "slots")

    def __init__(self, frame: int) -> None:
        self.frame = frame
        self.regs = [0] * 8
        self.slots = [0] * 8

    @property
    def empty(self) -> bool:
        return not any(self.regs) and not any(self.slots)

    def has(self, regno: int) -> bool:
        return bool(self.regs[self.frame] >> regno & 1)

    def add(self, regno: int) -> None:
        self.regs[self.frame] |= 1 << regno

    def drop(self, regno: int) -> None:
        self.regs[self.frame] &= ~(1 << regno)

    def sync_linked(self, hist: Jump | None) -> None:
        """bt_sync_linked_regs(): one of a group of equal registers sought means all of them."""
        if hist is None or not hist.linked:
            return
        if any((self.regs if is_reg else self.slots)[fr] >> n & 1 for fr, n, is_reg in hist.linked):
            for fr, n, is_reg in hist.linked:
                (self.regs if is_reg else self.slots)[fr] |= 1 << n


def mark_all_scalars_precise(env: Env, state: State | None) -> None:
    """mark_all_scalars_precise(): give up; every scalar of all parents counts."""
    if env.log2:
        number = state.curframe if state else 0
        env.verbose(f"mark_precise: frame{number}: falling back to forcing all scalars precise\n")
    first = True
    while state is not None:
        if not first:
            for i, frame in enumerate(state.frames):
                for j, reg in enumerate(frame.regs[:10]):
                    if reg.type == SCALAR_VALUE and not reg.precise:
                        reg.precise = True
                        if env.log2:
                            env.verbose(f"force_precise: frame{i}: forcing r{j} to be precise\n")
                for j, slot in enumerate(frame.stack):
                    if slot.is_spilled_scalar and not slot.spilled.precise:
                        slot.spilled.precise = True
                        if env.log2:
                            env.verbose(f"force_precise: frame{i}: forcing fp{-(j + 1) * 8} to be precise\n")
        first = False
        state = state.parent


def mark_all_scalars_imprecise(state: State) -> None:
    """mark_all_scalars_imprecise(): a new checkpoint starts with no claim."""
    for frame in state.frames:
        for reg in frame.regs[:10]:
            if reg.type == SCALAR_VALUE:
                reg.precise = False
        for slot in frame.stack:
            if slot.is_spilled_scalar:
                slot.spilled.precise = False


def _call(env: Env, bt: Backtrack, insn: Insn, idx: int, subseq: int) -> None:
    if kinds.is_pseudo_call(insn):
        sub = env.find_subprog(idx + insn.imm + 1)
        if env.subprogs[sub].is_global:
            if bt.regs[bt.frame] & _ARGS:
                env.bug(f"global subprog unexpected regs {bt.regs[bt.frame]:x}")
            bt.drop(0)
            return
        _leave_function(env, bt)
        args = bt.regs[bt.frame] & _ARGS
        bt.regs[bt.frame] = 0
        bt.frame -= 1
        bt.regs[bt.frame] |= args
    elif kinds.is_sync_callback_call(insn) and idx != subseq - 1:
        _leave_function(env, bt)
        bt.regs[bt.frame] &= ~_ARGS
        bt.frame -= 1
    else:
        bt.drop(0)
        if bt.regs[bt.frame] & _ARGS:
            env.bug(f"backtracking call unexpected regs {bt.regs[bt.frame]:x}")


def _leave_function(env: Env, bt: Backtrack) -> None:
    """Backwards over a function's entry: only its arguments may still be sought."""
    if bt.regs[bt.frame] & ~_ARGS:
        env.bug(f"static subprog unexpected regs {bt.regs[bt.frame]:x}")
    if bt.slots[bt.frame]:
        env.bug(f"static subprog leftover stack slots {bt.slots[bt.frame]:x}")


def _exit(env: Env, bt: Backtrack, subseq: int) -> None:
    """Backwards into a function through its exit."""
    if subseq >= 0 and env.aux[subseq].calls_callback:
        bt.regs[bt.frame] &= ~_ARGS
    if bt.regs[bt.frame] & _ARGS:
        env.bug(f"backtracking exit unexpected regs {bt.regs[bt.frame]:x}")
    r0 = subseq >= 1 and kinds.is_pseudo_call(env.insns[subseq - 1]) and bt.has(0)
    bt.drop(0)
    bt.frame += 1
    if r0:
        bt.add(0)


def _step(env: Env, bt: Backtrack, insn: Insn, idx: int, subseq: int, hist: Jump | None) -> None:
    cls, op, dst, src = insn.cls, insn.op, insn.dst, insn.src
    if cls in (isa.BPF_ALU, isa.BPF_ALU64):
        if not bt.has(dst) or op in (isa.BPF_END, isa.BPF_NEG):
            return
        if op == isa.BPF_MOV:
            bt.drop(dst)
        if insn.is_reg and src != isa.BPF_REG_FP:
            bt.add(src)
    elif cls == isa.BPF_LDX or kinds.is_atomic_load(insn):
        if not bt.has(dst):
            return
        bt.drop(dst)
        if hist is not None and hist.flags & INSN_F_STACK_ACCESS:
            bt.slots[hist.flags & 7] |= 1 << (hist.flags >> 3 & 0x3F)
    elif cls in (isa.BPF_STX, isa.BPF_ST):
        if bt.has(dst):
            raise _Unsupported
        if hist is None or not hist.flags & INSN_F_STACK_ACCESS:
            return
        bit = 1 << (hist.flags >> 3 & 0x3F)
        if not bt.slots[hist.flags & 7] & bit:
            return
        bt.slots[hist.flags & 7] &= ~bit
        if cls == isa.BPF_STX:
            bt.add(src)
    elif cls in (isa.BPF_JMP, isa.BPF_JMP32):
        if op == isa.BPF_CALL:
            _call(env, bt, insn, idx, subseq)
            return
        if op == isa.BPF_EXIT:
            _exit(env, bt, subseq)
            return
        if insn.is_reg and (bt.has(dst) or bt.has(src)):
            flags = hist.flags if hist is not None else 0
            if not flags & INSN_F_SRC_REG_STACK:
                bt.add(src)
            if not flags & INSN_F_DST_REG_STACK:
                bt.add(dst)
    elif cls == isa.BPF_LD:
        if not bt.has(dst):
            return
        bt.drop(dst)
        if insn.mode in (isa.BPF_IND, isa.BPF_ABS):
            raise _Unsupported


def _backtrack_insn(env: Env, bt: Backtrack, idx: int, subseq: int, hist: Jump | None) -> None:
    """backtrack_insn()."""
    insn = env.insns[idx]
    if insn.code == 0:
        return
    if env.log2:
        regs, slots = log.reg_mask_text(bt.regs[bt.frame]), log.stack_mask_text(bt.slots[bt.frame])
        env.verbose(f"mark_precise: frame{bt.frame}: regs={regs} stack={slots} before {idx}: {env.insn_text(idx)}\n")
    bt.sync_linked(hist)
    before = (bt.frame, bt.regs[bt.frame], bt.slots[bt.frame])
    _step(env, bt, insn, idx, subseq, hist)
    if hist is not None and hist.linked and before != (bt.frame, bt.regs[bt.frame], bt.slots[bt.frame]):
        bt.sync_linked(hist)


def _previous(state: State, i: int, history: int) -> tuple[int, int] | None:
    """get_prev_insn_idx(): (instruction before `i`, history entries left), None at the checkpoint's start."""
    jumps = state.jumps
    if i == state.first_insn_idx and (history == 0 or (history == 1 and jumps[0].idx == i)):
        return None
    if history and jumps[history - 1].idx == i:
        return jumps[history - 1].prev_idx, history - 1
    return i - 1, history


def _mark(reg: Reg) -> bool:
    """Mark precise; True where that is news."""
    news = not reg.precise
    reg.precise = True
    return news


def _transfer(env: Env, bt: Backtrack, state: State) -> bool:
    """Set what is sought precise in checkpoint `state`, and seek on only what was not; True where marks changed."""
    changed = False
    for fr in range(bt.frame, -1, -1):
        frame = state.frames[fr]
        for i in range(10):
            if bt.regs[fr] >> i & 1:
                reg = frame.regs[i]
                if reg.type == SCALAR_VALUE and _mark(reg):
                    changed = True
                else:
                    bt.regs[fr] &= ~(1 << i)
        mask = bt.slots[fr]
        for i in range(mask.bit_length()):
            if not mask >> i & 1:
                continue
            if i >= len(frame.stack):
                env.bug(f"stack slot {i}, total slots {len(frame.stack)}")
            slot = frame.stack[i]
            if slot.is_spilled_scalar and _mark(slot.spilled):
                changed = True
            else:
                bt.slots[fr] &= ~(1 << i)
        if env.log2:
            regs, slots = log.reg_mask_text(bt.regs[fr]), log.stack_mask_text(bt.slots[fr])
            env.verbose(f"mark_precise: frame{fr}: parent state regs={regs} stack={slots}: ")
            env.print_state(state, fr)
    return changed


def _at_entry(env: Env, bt: Backtrack, state: State) -> bool:
    """Backtracking reached a function's first instruction: fine for the arguments of a global one."""
    frame = state.frames[0]
    ok = state.curframe == 0 and frame.subprogno > 0 and frame.callsite == MAIN_FUNC
    if not ok or bt.slots[bt.frame] or bt.regs[bt.frame] & ~_ARGS:
        env.bug(
            f"backtracking func entry subprog {frame.subprogno} reg_mask {bt.regs[bt.frame]:x} "
            f"stack_mask {bt.slots[bt.frame]:x}"
        )
    changed = False
    for i in range(1, 6):
        if bt.regs[bt.frame] >> i & 1 and frame.regs[i].type == SCALAR_VALUE:
            frame.regs[i].precise = True
            changed = True
    return changed


def run(env: Env, bt: Backtrack, start: State) -> bool:
    """__mark_chain_precision(): seek what `bt` holds from `start` backwards; True where a mark was new."""
    state: State | None = start
    first, last, subseq = start.first_insn_idx, start.insn_idx, -1
    skip_first, changed = True, False
    if bt.empty:
        return False
    while state is not None:
        if env.log2:
            env.verbose(f"mark_precise: frame{bt.frame}: last_idx {last} first_idx {first} subseq_idx {subseq} \n")
        if last < 0:
            return _at_entry(env, bt, state) or changed
        history, i = len(state.jumps), last
        while True:
            try:
                if not skip_first:
                    hist = state.jumps[history - 1] if history and state.jumps[history - 1].idx == i else None
                    _backtrack_insn(env, bt, i, subseq, hist)
                skip_first = False
            except _Unsupported:
                mark_all_scalars_precise(env, start)
                return True
            if bt.empty:
                return changed
            subseq = i
            prev = _previous(state, i, history)
            if prev is None:
                break
            i, history = prev
            if not 0 <= i < len(env.insns):
                env.bug(f"backtracking idx {i}")
        state = state.parent
        if state is None:
            break
        changed |= _transfer(env, bt, state)
        if bt.empty:
            return changed
        subseq, last, first = first, state.last_insn_idx, state.first_insn_idx
    mark_all_scalars_precise(env, start)
    return changed


def mark(env: Env, regno: int) -> None:
    """mark_chain_precision(): the exact value of scalar `regno` mattered."""
    reg = env.regs[regno]
    if reg.type != SCALAR_VALUE:
        env.bug("backtracking misuse")
    bt = Backtrack(env.cur.curframe)
    bt.add(regno)
    run(env, bt, env.cur)


def propagate(env: Env, old: State, cur: State) -> bool:
    """propagate_precision(): what `old` needs precise, the equal state `cur` needs too."""
    bt = Backtrack(cur.curframe)
    for fr in range(old.curframe, -1, -1):
        frame = old.frames[fr]
        names: list[str] = []
        for i, reg in enumerate(frame.regs[:10]):
            if reg.type == SCALAR_VALUE and reg.precise:
                bt.regs[fr] |= 1 << i
                names.append(f"r{i}")
        for i, slot in enumerate(frame.stack):
            if slot.is_spilled_scalar and slot.spilled.precise:
                bt.slots[fr] |= 1 << i
                names.append(f"fp{-(i + 1) * 8}")
        if names and env.log2:
            env.verbose(f"frame {fr}: propagating {','.join(names)}\n")
    return run(env, bt, cur)
