"""Conditional jumps: both ways are walked, each with what it says about the registers.

Mirrors check_cond_jmp_op(), sync_linked_regs(), mark_ptr_or_null_regs(), try_match_pkt_pointers()
(kernel/bpf/verifier.c, 6.18). Which way a comparison goes is decided in branches.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.verifier import precision, prune, refs, scalars, tnum
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.branches import AT_PKT_END, BEYOND_PKT_END, FLIP, branch_taken, reg_set_min_max
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import INSN_F_DST_REG_STACK, INSN_F_SRC_REG_STACK, State
from kernel_model.bpf.verifier.states_equal import widen_imprecise_scalars

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_MAX_LINKED = 6


# --- registers that share an identity -------------------------------------------------------------------------------


def _collect_linked(env: Env, state: State, ident: int, found: list[tuple[int, int, bool]]) -> None:
    """collect_linked_regs(): where else scalar `ident` lives (at most six places)."""
    ident &= ~R.ADD_CONST
    for fr in range(state.curframe, -1, -1):
        frame = state.frames[fr]
        live = env.aux[state.frame_insn_idx(fr)].live_regs_before
        for i in range(10):
            if live >> i & 1 and frame.regs[i].type == R.SCALAR_VALUE and frame.regs[i].id & ~R.ADD_CONST == ident:
                found.append((fr, i, True))
        for i, slot in enumerate(frame.stack):
            if slot.is_spilled_scalar and slot.spilled.id & ~R.ADD_CONST == ident:
                found.append((fr, i, False))


def _link(env: Env, state: State, ident: int, linked: list[tuple[int, int, bool]]) -> None:
    found: list[tuple[int, int, bool]] = []
    _collect_linked(env, state, ident, found)
    for entry in found:
        if len(linked) < _MAX_LINKED:
            linked.append(entry)
        else:
            fr, n, is_reg = entry
            reg = state.frames[fr].regs[n] if is_reg else state.frames[fr].stack[n].spilled
            reg.id = 0


def _sync_linked(state: State, known: Reg, linked: list[tuple[int, int, bool]]) -> None:
    """sync_linked_regs(): what was learned of one holds for the others, up to a constant."""
    for fr, n, is_reg in linked:
        reg = state.frames[fr].regs[n] if is_reg else state.frames[fr].stack[n].spilled
        if reg is known or reg.type != R.SCALAR_VALUE or reg.id & ~R.ADD_CONST != known.id & ~R.ADD_CONST:
            continue
        if (reg.id ^ known.id) & R.ADD_CONST == R.ADD_CONST:
            continue  # one moved in its lower half, the other as a whole: how far they are apart is not known
        if not (reg.id & R.ADD_CONST or known.id & R.ADD_CONST) or reg.off == known.off:
            reg.assign(known)  # its link too
            continue
        delta = reg.off - known.off
        ident, off, precise = reg.id, reg.off, reg.precise
        reg.assign(known)
        reg.id, reg.off, reg.precise = ident, off, precise
        fake = Reg(R.SCALAR_VALUE)
        fake.mark_scalar(delta)
        scalars.apply(isa.BPF_ADD, reg, fake, bool((ident | known.id) & R.ADD_CONST32))


# --- pointers and null ----------------------------------------------------------------------------------------------


def _mark_ptr_or_null(reg: Reg, ident: int, is_null: bool) -> None:
    if not reg.maybe_null or reg.id != ident:
        return
    if is_null:
        reg.mark_scalar(0)
        return
    mark_not_null(reg)
    reg.id = 0  # ref_obj_id is what a release looks for


def mark_not_null(reg: Reg) -> None:
    """mark_ptr_not_null_reg()."""
    reg.type &= ~R.PTR_MAYBE_NULL


def mark_ptr_or_null_regs(state: State, regno: int, is_null: bool) -> None:
    """mark_ptr_or_null_regs(): all copies of a nullable pointer are null, or none is."""
    reg = state.frame.regs[regno]
    ident, ref = reg.id, reg.ref_obj_id
    if ref and ref == ident and is_null:
        for held in [r for r in state.refs if r.id == ident]:
            refs.drop(state, held)
    for other in state.all_regs():
        _mark_ptr_or_null(other, ident, is_null)


def _find_good_pkt(state: State, dst: Reg, kind: int, range_right_open: bool) -> None:
    """find_good_pkt_pointers(): the packet is long enough up to `dst`."""
    if dst.off < 0 or (dst.off == 0 and range_right_open):
        return
    if dst.umax > 0xFFFF or dst.umax + dst.off > 0xFFFF:
        return
    new_range = dst.off - 1 if range_right_open else dst.off
    for reg in state.all_regs():
        if reg.type == kind and reg.id == dst.id and reg.id >= 0:
            reg.range = max(reg.range, new_range)


def _mark_pkt_end(state: State, regno: int, open_range: bool) -> None:
    reg = state.frame.regs[regno]
    if reg.type == R.PTR_TO_PACKET:
        reg.range = AT_PKT_END if open_range else BEYOND_PKT_END


def _match_pkt(insn: Insn, dst: Reg, src: Reg, this: State, other: State) -> bool:
    """try_match_pkt_pointers()."""
    if not insn.is_reg or insn.cls == isa.BPF_JMP32:
        return False
    starts = (R.PTR_TO_PACKET, R.PTR_TO_PACKET_META)

    def is_start_of(reg: Reg) -> bool:
        return reg.type == R.PTR_TO_PACKET and reg.id == 0 and reg.off == 0 and reg.var_off == tnum.ZERO

    def forward(a: Reg, b: Reg) -> bool:
        return (a.type == R.PTR_TO_PACKET and b.type == R.PTR_TO_PACKET_END) or (
            a.type == R.PTR_TO_PACKET_META and is_start_of(b)
        )

    op = insn.op
    if forward(dst, src):
        near, kind, end_regno, swapped = dst, dst.type, insn.dst, False
    elif forward(src, dst):
        near, kind, end_regno, swapped = src, src.type, insn.src, True
        op = FLIP.get(op, op)
    else:
        return False
    assert kind in starts
    # `near <op> end`, seen from the pointer whose range is learned
    if op == isa.BPF_JGT:
        _find_good_pkt(this, near, kind, False)
        _mark_pkt_end(other, end_regno, False)
    elif op == isa.BPF_JLT:
        _find_good_pkt(other, near, kind, True)
        _mark_pkt_end(this, end_regno, True)
    elif op == isa.BPF_JGE:
        _find_good_pkt(this, near, kind, True)
        _mark_pkt_end(other, end_regno, True)
    elif op == isa.BPF_JLE:
        _find_good_pkt(other, near, kind, False)
        _mark_pkt_end(this, end_regno, False)
    else:
        return False
    del swapped
    return True


# --- the instruction ------------------------------------------------------------------------------------------------


def _may_goto(env: Env, insn: Insn) -> None:
    if insn.code != isa.BPF_JMP | isa.BPF_JCOND or insn.src != isa.BPF_MAY_GOTO or insn.dst or insn.imm:
        env.inval(f"invalid may_goto imm {insn.imm}")
    idx = env.insn_idx
    env.may_goto = True
    prev = prune.find_prev_entry(env, env.cur.parent, idx)
    queued = env.push_stack(idx + 1, idx)
    queued.may_goto_depth += 1
    if prev is not None:
        widen_imprecise_scalars(env, prev, queued)
    env.insn_idx += insn.off


def _operands(env: Env, insn: Insn) -> tuple[Reg, Reg, int]:
    dst = env.reg_read(insn.dst)
    flags = 0
    if insn.is_reg:
        if insn.imm:
            env.inval("BPF_JMP/JMP32 uses reserved fields")
        src = env.reg_read(insn.src)
        if src.type == R.PTR_TO_STACK:
            flags |= INSN_F_SRC_REG_STACK
    else:
        if insn.src:
            env.inval("BPF_JMP/JMP32 uses reserved fields")
        src = Reg(R.SCALAR_VALUE)
        src.mark_scalar(insn.imm)
    if dst.type == R.PTR_TO_STACK:
        flags |= INSN_F_DST_REG_STACK
    return dst, src, flags


def check(env: Env) -> None:
    """check_cond_jmp_op(): leaves insn_idx so that the caller's increment reaches the way that is followed."""
    insn = env.insn
    op = insn.op
    if op > isa.BPF_JCOND or (op == isa.BPF_JCOND and insn.cls == isa.BPF_JMP32):
        env.inval(f"invalid BPF_JMP/JMP32 opcode {op:x}")
    if op == isa.BPF_JCOND:
        _may_goto(env, insn)
        return
    this = env.cur
    dst, src, flags = _operands(env, insn)
    if flags:
        env.push_jump(this, flags)
    is32 = insn.cls == isa.BPF_JMP32
    taken = branch_taken(dst, src, op, is32)
    if taken >= 0:
        if dst.type == R.SCALAR_VALUE:
            precision.mark(env, insn.dst)
        if insn.is_reg and src.type == R.SCALAR_VALUE:
            precision.mark(env, insn.src)
        if env.log1:
            env.print_insn_state(this, this.curframe)
        env.insn_idx += insn.off * taken
        return
    _both(env, insn, dst, src, op, is32)


def _both(env: Env, insn: Insn, dst: Reg, src: Reg, op: int, is32: bool) -> None:
    this = env.cur
    linked: list[tuple[int, int, bool]] = []
    if insn.is_reg and src.type == R.SCALAR_VALUE and src.id:
        _link(env, this, src.id, linked)
    if dst.type == R.SCALAR_VALUE and dst.id:
        _link(env, this, dst.id, linked)
    if len(linked) > 1:
        env.push_jump(this, 0, tuple(linked))
    other = env.push_stack(env.insn_idx + insn.off + 1, env.insn_idx)
    other_regs = other.frame.regs
    true_src = other_regs[insn.src] if insn.is_reg else src.copy()
    reg_set_min_max(other_regs[insn.dst], true_src, dst, src, op, is32)
    if insn.is_reg and src.type == R.SCALAR_VALUE and src.id:
        _sync_linked(this, src, linked)
        _sync_linked(other, true_src, linked)
    if dst.type == R.SCALAR_VALUE and dst.id:
        _sync_linked(this, dst, linked)
        _sync_linked(other, other_regs[insn.dst], linked)
    _compare_pointers(env, insn, dst, src, other, op, is32)
    if env.log1:
        env.print_insn_state(this, this.curframe)


def _compare_pointers(env: Env, insn: Insn, dst: Reg, src: Reg, other: State, op: int, is32: bool) -> None:
    this = env.cur
    if not is32 and insn.is_reg and src.type != R.SCALAR_VALUE and dst.type != R.SCALAR_VALUE:
        if src.maybe_null != dst.maybe_null and R.PTR_TO_BTF_ID not in (src.base, dst.base):
            equal = {isa.BPF_JEQ: other, isa.BPF_JNE: this}.get(op)
            if equal is not None:
                mark_not_null(equal.frame.regs[insn.src if src.maybe_null else insn.dst])
    if not is32 and not insn.is_reg and insn.imm == 0 and op in (isa.BPF_JEQ, isa.BPF_JNE) and dst.maybe_null:
        mark_ptr_or_null_regs(this, insn.dst, op == isa.BPF_JNE)
        mark_ptr_or_null_regs(other, insn.dst, op == isa.BPF_JEQ)
    else:
        _match_pkt(insn, dst, this.frame.regs[insn.src], this, other)
