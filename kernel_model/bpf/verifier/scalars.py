"""Arithmetic on what is known of two scalars.

Mirrors adjust_scalar_min_max_vals() and the scalar_min_max_*() family (kernel/bpf/verifier.c, 6.18).
Every function changes `dst` in place and reads `src`; 32-bit results keep a 64-bit range that sync() repairs.
"""

from __future__ import annotations

from collections.abc import Callable

from arch import bpf_isa as isa
from kernel_model.bpf.verifier import bounds, tnum
from kernel_model.bpf.verifier.bounds import s32, s64
from kernel_model.bpf.verifier.regs import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX, Reg


def _fits(low: int, high: int, bottom: int, top: int) -> bool:
    return bottom <= low <= top and bottom <= high <= top


def _add(dst: Reg, src: Reg) -> None:
    low, high = dst.s32min + src.s32min, dst.s32max + src.s32max
    dst.s32min, dst.s32max = (low, high) if _fits(low, high, S32_MIN, S32_MAX) else (S32_MIN, S32_MAX)
    low, high = dst.smin + src.smin, dst.smax + src.smax
    dst.smin, dst.smax = (low, high) if _fits(low, high, S64_MIN, S64_MAX) else (S64_MIN, S64_MAX)
    # both ends overflow, or neither: the wrapped range is exact
    low, high = dst.u32min + src.u32min, dst.u32max + src.u32max
    partial = low <= U32_MAX < high
    dst.u32min, dst.u32max = (0, U32_MAX) if partial else (low & U32_MAX, high & U32_MAX)
    low, high = dst.umin + src.umin, dst.umax + src.umax
    partial = low <= U64_MAX < high
    dst.umin, dst.umax = (0, U64_MAX) if partial else (low & U64_MAX, high & U64_MAX)
    dst.var_off = tnum.add(dst.var_off, src.var_off)


def _sub(dst: Reg, src: Reg) -> None:
    low, high = dst.s32min - src.s32max, dst.s32max - src.s32min
    dst.s32min, dst.s32max = (low, high) if _fits(low, high, S32_MIN, S32_MAX) else (S32_MIN, S32_MAX)
    low, high = dst.smin - src.smax, dst.smax - src.smin
    dst.smin, dst.smax = (low, high) if _fits(low, high, S64_MIN, S64_MAX) else (S64_MIN, S64_MAX)
    low, high = dst.u32min - src.u32max, dst.u32max - src.u32min
    partial = low < 0 <= high
    dst.u32min, dst.u32max = (0, U32_MAX) if partial else (low & U32_MAX, high & U32_MAX)
    low, high = dst.umin - src.umax, dst.umax - src.umin
    partial = low < 0 <= high
    dst.umin, dst.umax = (0, U64_MAX) if partial else (low & U64_MAX, high & U64_MAX)
    dst.var_off = tnum.sub(dst.var_off, src.var_off)


def _neg(dst: Reg) -> None:
    operand = dst.copy()
    dst.mark_known(0)
    _sub(dst, operand)


def _mul(dst: Reg, src: Reg) -> None:
    dst.var_off = tnum.mul(dst.var_off, src.var_off)
    low, high = dst.u32min * src.u32min, dst.u32max * src.u32max
    dst.u32min, dst.u32max = (low, high) if high <= U32_MAX else (0, U32_MAX)
    products = [a * b for a in (dst.s32min, dst.s32max) for b in (src.s32min, src.s32max)]
    low, high = min(products), max(products)
    dst.s32min, dst.s32max = (low, high) if _fits(low, high, S32_MIN, S32_MAX) else (S32_MIN, S32_MAX)
    low, high = dst.umin * src.umin, dst.umax * src.umax
    dst.umin, dst.umax = (low, high) if high <= U64_MAX else (0, U64_MAX)
    products = [a * b for a in (dst.smin, dst.smax) for b in (src.smin, src.smax)]
    low, high = min(products), max(products)
    dst.smin, dst.smax = (low, high) if _fits(low, high, S64_MIN, S64_MAX) else (S64_MIN, S64_MAX)


def _signed_from_unsigned32(dst: Reg) -> None:
    if s32(dst.u32min) <= s32(dst.u32max):
        dst.s32min, dst.s32max = s32(dst.u32min), s32(dst.u32max)
    else:
        dst.s32min, dst.s32max = S32_MIN, S32_MAX


def _signed_from_unsigned64(dst: Reg) -> None:
    if s64(dst.umin) <= s64(dst.umax):
        dst.smin, dst.smax = s64(dst.umin), s64(dst.umax)
    else:
        dst.smin, dst.smax = S64_MIN, S64_MAX


def _bitwise(
    combine: Callable[[tnum.Tnum, tnum.Tnum], tnum.Tnum],
    unsigned: Callable[[int, int, int, int, tnum.Tnum], tuple[int, int]],
) -> Callable[[Reg, Reg], None]:
    """An AND, OR or XOR: `unsigned(umin, umax, src_umin, src_umax, known_bits)` gives the new unsigned range."""

    def op(dst: Reg, src: Reg) -> None:
        known32 = not (src.var_off.mask | dst.var_off.mask) & U32_MAX
        known64 = not (src.var_off.mask | dst.var_off.mask)
        dst.var_off = combine(dst.var_off, src.var_off)
        low = tnum.subreg(dst.var_off)
        if known32:
            dst.u32min = dst.u32max = low.value
            dst.s32min = dst.s32max = s32(low.value)
        else:
            dst.u32min, dst.u32max = unsigned(dst.u32min, dst.u32max, src.u32min, src.u32max, low)
            _signed_from_unsigned32(dst)
        if known64:
            dst.set_value(dst.var_off.value)
            return
        dst.umin, dst.umax = unsigned(dst.umin, dst.umax, src.umin, src.umax, dst.var_off)
        _signed_from_unsigned64(dst)
        bounds.update_bounds(dst)

    return op


_and = _bitwise(tnum.and_, lambda lo, hi, slo, shi, bits: (bits.value, min(hi, shi)))
_or = _bitwise(tnum.or_, lambda lo, hi, slo, shi, bits: (max(lo, slo), bits.value | bits.mask))
_xor = _bitwise(tnum.xor, lambda lo, hi, slo, shi, bits: (bits.value, bits.value | bits.mask))


def _lsh32_range(dst: Reg, shift: int) -> None:
    dst.s32min, dst.s32max = S32_MIN, S32_MAX
    if shift > 31 or dst.u32max > 1 << (31 - shift):
        dst.u32min, dst.u32max = 0, U32_MAX
    else:
        dst.u32min <<= shift
        dst.u32max <<= shift


def _lsh32(dst: Reg, shift: int) -> None:
    _lsh32_range(dst, shift)
    dst.var_off = tnum.subreg(tnum.lshift(tnum.subreg(dst.var_off), shift))
    dst.set_unbounded64()
    bounds.update_bounds32(dst)


def _lsh64(dst: Reg, shift: int) -> None:
    if shift == 32:  # the usual first half of a sign extension
        dst.smin, dst.smax = dst.s32min << 32, dst.s32max << 32
    else:
        dst.smin, dst.smax = S64_MIN, S64_MAX
    if dst.umax > 1 << (63 - shift):
        dst.umin, dst.umax = 0, U64_MAX
    else:
        dst.umin <<= shift
        dst.umax <<= shift
    _lsh32_range(dst, shift)
    dst.var_off = tnum.lshift(dst.var_off, shift)
    bounds.update_bounds(dst)


def _rsh32(dst: Reg, shift: int) -> None:
    dst.s32min, dst.s32max = S32_MIN, S32_MAX
    dst.var_off = tnum.rshift(tnum.subreg(dst.var_off), shift)
    dst.u32min >>= shift
    dst.u32max >>= shift
    dst.set_unbounded64()
    bounds.update_bounds32(dst)


def _rsh64(dst: Reg, shift: int) -> None:
    dst.smin, dst.smax = S64_MIN, S64_MAX
    dst.var_off = tnum.rshift(dst.var_off, shift)
    dst.umin >>= shift
    dst.umax >>= shift
    dst.set_unbounded32()
    bounds.update_bounds(dst)


def _arsh32(dst: Reg, shift: int) -> None:
    dst.s32min >>= shift
    dst.s32max >>= shift
    dst.var_off = tnum.arshift(tnum.subreg(dst.var_off), shift, 32)
    dst.u32min, dst.u32max = 0, U32_MAX
    dst.set_unbounded64()
    bounds.update_bounds32(dst)


def _arsh64(dst: Reg, shift: int) -> None:
    dst.smin >>= shift
    dst.smax >>= shift
    dst.var_off = tnum.arshift(dst.var_off, shift, 64)
    dst.umin, dst.umax = 0, U64_MAX
    dst.set_unbounded32()
    bounds.update_bounds(dst)


_BINARY: dict[int, Callable[[Reg, Reg], None]] = {
    isa.BPF_ADD: _add, isa.BPF_SUB: _sub, isa.BPF_MUL: _mul, isa.BPF_AND: _and, isa.BPF_OR: _or, isa.BPF_XOR: _xor,
}  # fmt: skip
_SHIFTS: dict[int, tuple[Callable[[Reg, int], None], Callable[[Reg, int], None]]] = {
    isa.BPF_LSH: (_lsh32, _lsh64), isa.BPF_RSH: (_rsh32, _rsh64), isa.BPF_ARSH: (_arsh32, _arsh64),
}  # fmt: skip


def _known_shift(src: Reg, alu32: bool) -> int | None:
    """The shift count where it is a constant below the operand's width, else None."""
    if alu32:
        settled = not src.var_off.mask & U32_MAX and src.s32min == src.s32max and src.u32min == src.u32max
    else:
        settled = not src.var_off.mask and src.smin == src.smax and src.umin == src.umax
    return src.umin if settled and src.umax < (32 if alu32 else 64) else None


def apply(op: int, dst: Reg, src: Reg, alu32: bool) -> None:
    """adjust_scalar_min_max_vals(): `dst` becomes what is known of `dst <op> src`, both scalars."""
    if op in _BINARY:
        _BINARY[op](dst, src)
    elif op == isa.BPF_NEG:
        _neg(dst)
    else:
        shift = _known_shift(src, alu32) if op in _SHIFTS else None
        if shift is None:
            dst.mark_unknown()
            return
        _SHIFTS[op][0 if alu32 else 1](dst, shift)
    if alu32:
        bounds.zext_32_to_64(dst)
    bounds.sync(dst)
