"""Comparisons: which way a branch goes, and what each way says about the registers compared.

Mirrors is_branch_taken(), regs_refine_cond_op() and reg_set_min_max() (kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from arch import bpf_isa as isa
from kernel_model.bpf.verifier import bounds, refs, tnum
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.bounds import s32, s64
from kernel_model.bpf.verifier.regs import U32_MAX, U64_MAX, Reg
from kernel_model.bpf.verifier.tnum import Tnum

FLIP = {
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


AT_PKT_END, BEYOND_PKT_END = -1, -2


def _pkt_branch(dst: Reg, src: Reg, op: int) -> int:
    """is_pkt_ptr_branch_taken(): a packet pointer that was compared with the end before."""
    if src.type == R.PTR_TO_PACKET_END:
        pkt = dst
    elif dst.type == R.PTR_TO_PACKET_END:
        pkt, op = src, FLIP[op]
    else:
        return -1
    if pkt.range >= 0:
        return -1
    beyond = pkt.range == BEYOND_PKT_END
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
        op = FLIP[op]
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
        op = FLIP[op]
        r1, r2 = r2, r1
    if op == isa.BPF_JEQ:
        _refine_eq(r1, r2, is32)
    elif op == isa.BPF_JNE:
        _refine_ne(r1, r2, is32)
    elif op in (isa.BPF_JSET, _NOT_JSET):
        _refine_jset(r1, r2, is32, op == isa.BPF_JSET)
    else:
        _refine_order(r1, r2, op, is32)


def reg_set_min_max(true1: Reg, true2: Reg, false1: Reg, false2: Reg, op: int, is32: bool) -> None:
    """reg_set_min_max()."""
    if false1.type != R.SCALAR_VALUE or false2.type != R.SCALAR_VALUE:
        return
    refine(false1, false2, _REVERSE[op], is32)
    refine(true1, true2, op, is32)
    for reg in (false1, false2, true1, true2):
        bounds.sync(reg)
        if bounds.violation(reg):
            reg.set_unbounded()
