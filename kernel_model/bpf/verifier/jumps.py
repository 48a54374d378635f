"""Conditional jumps: which way they go, and what each way says about the registers compared.

Mirrors check_cond_jmp_op(), is_branch_taken(), reg_set_min_max(), sync_linked_regs(), try_match_pkt_pointers()
(kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.verifier import bounds, precision, prune, refs, tnum
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.bounds import s32, s64
from kernel_model.bpf.verifier.regs import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX, Reg
from kernel_model.bpf.verifier.state import INSN_F_DST_REG_STACK, INSN_F_SRC_REG_STACK, State
from kernel_model.bpf.verifier.states_equal import widen_imprecise_scalars
from kernel_model.bpf.verifier.tnum import Tnum

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_FLIP = {
    isa.BPF_JEQ: isa.BPF_JEQ, isa.BPF_JNE: isa.BPF_JNE, isa.BPF_JSET: isa.BPF_JSET,
    isa.BPF_JGE: isa.BPF_JLE, isa.BPF_JGT: isa.BPF_JLT, isa.BPF_JSGE: isa.BPF_JSLE, isa.BPF_JSGT: isa.BPF_JSLT,
    isa.BPF_JLE: isa.BPF_JGE, isa.BPF_JLT: isa.BPF_JGT, isa.BPF_JSLE: isa.BPF_JSGE, isa.BPF_JSLT: isa.BPF_JSGT,
}  # fmt: skip
_NOT_JSET = isa.BPF_JSET | isa.BPF_X
_REVERSE = {
    isa.BPF_JEQ: isa.BPF_JNE, isa.BPF_JNE: isa.BPF_JEQ, isa.BPF_JSET: _NOT_JSET,
    isa.BPF_JGE: isa.BPF_JLT, isa.BPF_JGT: isa.BPF_JLE, isa.BPF_JSGE: isa.BPF_JSLT, isa.BPF_JSGT: isa.BPF_JSLE,
    isa.BPF_JLE: isa.BPF_JGT, isa.BPF_JLT: isa.BPF_JGE, isa.BPF_JSLE: isa.BPF_JSGT, isa.BPF_JSLT: isa.BPF_JSGE,
}  # fmt: skip
_MAX_LINKED = 6


# --- which way ------------------------------------------------------------------------------------------------------


def _order(low1: int, high1: int, low2: int, high2: int, op: int) -> int:
    """Outcome (1, 0, or -1 unknown) of `a > b`, `a < b`, `a >= b` or `a <= b` for ranges of one signedness."""
    if op == isa.BPF_JGT:
        return 1 if low1 > high2 else 0 if high1 <= low2 else -1
    if op == isa.BPF_JLT:
        return 1 if high1 < low2 else 0 if low1 >= high2 else -1
    if op == isa.BPF_JGE:
        return 1 if low1 >= high2 else 0 if high1 < low2 else -1
    return 1 if high1 <= low2 else 0 if low1 > high2 else -1


_UNSIGNED = {
    isa.BPF_JSGT: isa.BPF_JGT, isa.BPF_JSLT: isa.BPF_JLT, isa.BPF_JSGE: isa.BPF_JGE, isa.BPF_JSLE: isa.BPF_JLE,
}  # fmt: skip


def _equal(r1: Reg, r2: Reg, t1: Tnum, t2: Tnum, is32: bool) -> int:
    """Outcome of `a == b`."""
    if not t1.mask and not t2.mask:
        return int(t1.value == t2.value)
    if not tnum.overlap(t1, t2):
        return 0
    if r1.u32min > r2.u32max or r1.u32max < r2.u32min or r1.s32min > r2.s32max or r1.s32max < r2.s32min:
        return 0
    if not is32 and (r1.umin > r2.umax or r1.umax < r2.umin or r1.smin > r2.smax or r1.smax < r2.smin):
        return 0
    return -1


def _scalar_branch(r1: Reg, r2: Reg, op: int, is32: bool) -> int:
    """is_scalar_branch_taken()."""
    t1 = tnum.subreg(r1.var_off) if is32 else r1.var_off
    t2 = tnum.subreg(r2.var_off) if is32 else r2.var_off
    if op in (isa.BPF_JEQ, isa.BPF_JNE):
        outcome = _equal(r1, r2, t1, t2, is32)
        return outcome if op == isa.BPF_JEQ or outcome < 0 else 1 - outcome
    if op == isa.BPF_JSET:
        if t2.mask:
            t1, t2 = t2, t1
        if t2.mask:
            return -1
        if t1.value & t2.value:
            return 1
        return 0 if not (t1.mask | t1.value) & t2.value else -1
    if op in _UNSIGNED:
        if is32:
            return _order(r1.s32min, r1.s32max, r2.s32min, r2.s32max, _UNSIGNED[op])
        return _order(r1.smin, r1.smax, r2.smin, r2.smax, _UNSIGNED[op])
    if is32:
        return _order(r1.u32min, r1.u32max, r2.u32min, r2.u32max, op)
    return _order(r1.umin, r1.umax, r2.umin, r2.umax, op)


_AT_PKT_END, _BEYOND_PKT_END = -1, -2


def _pkt_branch(dst: Reg, src: Reg, op: int) -> int:
    """is_pkt_ptr_branch_taken(): a packet pointer that was compared with the end before."""
    if src.type == R.PTR_TO_PACKET_END:
        pkt = dst
    elif dst.type == R.PTR_TO_PACKET_END:
        pkt, op = src, _FLIP[op]
    else:
        return -1
    if pkt.range >= 0:
        return -1
    beyond = pkt.range == _BEYOND_PKT_END
    if op in (isa.BPF_JLE, isa.BPF_JGT):
        return int(op == isa.BPF_JGT) if beyond else -1
    if op in (isa.BPF_JLT, isa.BPF_JGE):
        return int(op == isa.BPF_JGE)
    return -1


def not_null(reg: Reg) -> bool:
    """reg_not_null(): comparing with zero can be decided."""
    if reg.maybe_null:
        return False
    base = reg.base
    if base == R.PTR_TO_BTF_ID:
        return refs.is_trusted(reg)
    if base == R.PTR_TO_MEM:
        return not reg.type & R.PTR_UNTRUSTED
    return base in (R.PTR_TO_MAP_VALUE, R.PTR_TO_MAP_KEY, R.CONST_PTR_TO_MAP)


def branch_taken(r1: Reg, r2: Reg, op: int, is32: bool) -> int:
    """is_branch_taken(): 1 always, 0 never, -1 both."""
    if r1.is_pkt_any and r2.is_pkt_any and not is32:
        return _pkt_branch(r1, r2, op)
    if not r2.is_const(is32):
        op = _FLIP[op]
        r1, r2 = r2, r1
    if not r2.is_const(is32):
        return -1 if r1.type != R.SCALAR_VALUE or r2.type != R.SCALAR_VALUE else _scalar_branch(r1, r2, op, is32)
    if r1.type != R.SCALAR_VALUE:
        if not not_null(r1) or r2.const_value(is32) != 0:
            return -1
        return {isa.BPF_JEQ: 0, isa.BPF_JNE: 1}.get(op, -1)
    return _scalar_branch(r1, r2, op, is32)


# --- what a branch teaches ------------------------------------------------------------------------------------------


def _refine_eq(r1: Reg, r2: Reg, is32: bool) -> None:
    r1.u32min = r2.u32min = max(r1.u32min, r2.u32min)
    r1.u32max = r2.u32max = min(r1.u32max, r2.u32max)
    r1.s32min = r2.s32min = max(r1.s32min, r2.s32min)
    r1.s32max = r2.s32max = min(r1.s32max, r2.s32max)
    if is32:
        low = tnum.intersect(tnum.subreg(r1.var_off), tnum.subreg(r2.var_off))
        r1.var_off = tnum.with_subreg(r1.var_off, low)
        r2.var_off = tnum.with_subreg(r2.var_off, low)
        return
    r1.umin = r2.umin = max(r1.umin, r2.umin)
    r1.umax = r2.umax = min(r1.umax, r2.umax)
    r1.smin = r2.smin = max(r1.smin, r2.smin)
    r1.smax = r2.smax = min(r1.smax, r2.smax)
    r1.var_off = r2.var_off = tnum.intersect(r1.var_off, r2.var_off)


def _refine_ne(r1: Reg, r2: Reg, is32: bool) -> None:
    """A constant at the very edge of the other's range moves the edge."""
    if not r2.is_const(is32):
        r1, r2 = r2, r1
    if not r2.is_const(is32):
        return
    val = r2.const_value(is32)
    if is32:
        r1.u32min += r1.u32min == val
        r1.u32max -= r1.u32max == val
        r1.s32min += r1.s32min == s32(val)
        r1.s32max -= r1.s32max == s32(val)
    else:
        r1.umin += r1.umin == val
        r1.umax -= r1.umax == val
        r1.smin += r1.smin == s64(val)
        r1.smax -= r1.smax == s64(val)


def _refine_jset(r1: Reg, r2: Reg, is32: bool, taken: bool) -> None:
    if not r2.is_const(is32):
        r1, r2 = r2, r1
    if not r2.is_const(is32):
        return
    val = r2.const_value(is32)
    if taken:
        if val == 0 or val & (val - 1):
            return  # only a single bit says which
        new = tnum.or_(tnum.subreg(r1.var_off) if is32 else r1.var_off, tnum.const(val))
    else:
        r1.set_unbounded()
        mask = U32_MAX if is32 else U64_MAX
        new = tnum.and_(tnum.subreg(r1.var_off) if is32 else r1.var_off, tnum.const(~val & mask))
    r1.var_off = tnum.with_subreg(r1.var_off, new) if is32 else new


def _wrap_s(v: int, is32: bool) -> int:
    return s32(v) if is32 else s64(v)


def _refine_order(r1: Reg, r2: Reg, op: int, is32: bool) -> None:
    """`r1 < r2` or `r1 <= r2`, of either signedness."""
    strict = int(op in (isa.BPF_JLT, isa.BPF_JSLT))
    if op in (isa.BPF_JLE, isa.BPF_JLT):
        if is32:
            r1.u32max = min(r1.u32max, (r2.u32max - strict) & U32_MAX)
            r2.u32min = max((r1.u32min + strict) & U32_MAX, r2.u32min)
        else:
            r1.umax = min(r1.umax, (r2.umax - strict) & U64_MAX)
            r2.umin = max((r1.umin + strict) & U64_MAX, r2.umin)
    elif is32:
        r1.s32max = min(r1.s32max, _wrap_s(r2.s32max - strict, True))
        r2.s32min = max(_wrap_s(r1.s32min + strict, True), r2.s32min)
    else:
        r1.smax = min(r1.smax, _wrap_s(r2.smax - strict, False))
        r2.smin = max(_wrap_s(r1.smin + strict, False), r2.smin)


def refine(r1: Reg, r2: Reg, op: int, is32: bool) -> None:
    """regs_refine_cond_op(): `r1 <op> r2` holds."""
    if op in (isa.BPF_JGE, isa.BPF_JGT, isa.BPF_JSGE, isa.BPF_JSGT):
        op = _FLIP[op]
        r1, r2 = r2, r1
    if op == isa.BPF_JEQ:
        _refine_eq(r1, r2, is32)
    elif op == isa.BPF_JNE:
        _refine_ne(r1, r2, is32)
    elif op in (isa.BPF_JSET, _NOT_JSET):
        _refine_jset(r1, r2, is32, op == isa.BPF_JSET)
    else:
        _refine_order(r1, r2, op, is32)


def _set_min_max(true1: Reg, true2: Reg, false1: Reg, false2: Reg, op: int, is32: bool) -> None:
    """reg_set_min_max()."""
    if false1.type != R.SCALAR_VALUE or false2.type != R.SCALAR_VALUE:
        return
    refine(false1, false2, _REVERSE[op], is32)
    refine(true1, true2, op, is32)
    for reg in (false1, false2, true1, true2):
        bounds.sync(reg)
        if bounds.violation(reg):
            reg.set_unbounded()


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
        from kernel_model.bpf.verifier import scalars

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
        reg.range = _AT_PKT_END if open_range else _BEYOND_PKT_END


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
        op = _FLIP.get(op, op)
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
    _set_min_max(other_regs[insn.dst], true_src, dst, src, op, is32)
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


__all__ = ["S32_MAX", "S32_MIN", "S64_MAX", "S64_MIN", "branch_taken", "check", "mark_not_null", "not_null", "refine"]
