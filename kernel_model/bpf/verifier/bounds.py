"""Bounds of a register deduced from each other and from its known bits.

Mirrors reg_bounds_sync() and what it calls, coerce_reg_to_size*(), zext_32_to_64() (kernel/bpf/verifier.c, 6.18,
with the third deduction round of 6.17 and the rule for s64 ranges that cross the sign boundary).
"""

from __future__ import annotations

from kernel_model.bpf.verifier import tnum
from kernel_model.bpf.verifier.regs import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX, Reg
from kernel_model.bpf.verifier.tnum import Tnum


def s64(v: int) -> int:
    """Unsigned 64-bit value as signed."""
    v &= U64_MAX
    return v - (1 << 64) if v >> 63 else v


def s32(v: int) -> int:
    """Low 32 bits as signed."""
    v &= U32_MAX
    return v - (1 << 32) if v >> 31 else v


def update_bounds32(reg: Reg) -> None:
    """__update_reg32_bounds(): what the known bits of the low half say."""
    value, mask = reg.var_off.value & U32_MAX, reg.var_off.mask & U32_MAX
    reg.s32min = max(reg.s32min, s32(value | (mask & 0x8000_0000)))
    reg.s32max = min(reg.s32max, s32(value | (mask & 0x7FFF_FFFF)))
    reg.u32min = max(reg.u32min, value)
    reg.u32max = min(reg.u32max, value | mask)


def update_bounds64(reg: Reg) -> None:
    """__update_reg64_bounds()."""
    value, mask = reg.var_off
    reg.smin = max(reg.smin, s64(value | (mask & (1 << 63))))
    reg.smax = min(reg.smax, s64(value | (mask & ((1 << 63) - 1))))
    reg.umin = max(reg.umin, value)
    reg.umax = min(reg.umax, value | mask)
    if 0 < mask < U64_MAX:
        _only_common(reg)


def _only_common(reg: Reg) -> None:
    """Known bits and unsigned range may have one number in common only."""
    known = reg.var_off
    following = tnum.step(known, reg.umin)
    if reg.umin & ~known.mask == known.value:
        if following > reg.umax:
            reg.set_value(reg.umin)
    elif following == known.value | known.mask or following <= reg.umax < tnum.step(known, following):
        reg.set_value(following)


def update_bounds(reg: Reg) -> None:
    """__update_reg_bounds()."""
    update_bounds32(reg)
    update_bounds64(reg)


def _narrow_s32(reg: Reg, low: int, high: int) -> None:
    reg.s32min = max(reg.s32min, s32(low))
    reg.s32max = min(reg.s32max, s32(high))


def _narrow_u32(reg: Reg, low: int, high: int) -> None:
    reg.u32min = max(reg.u32min, low & U32_MAX)
    reg.u32max = min(reg.u32max, high & U32_MAX)


def _deduce32(reg: Reg) -> None:
    """__reg32_deduce_bounds(): 32-bit ranges from 64-bit ones with one upper half, or two neighbouring ones."""
    umin, umax, smin, smax = reg.umin, reg.umax, reg.smin, reg.smax
    if umin >> 32 == umax >> 32:
        _narrow_u32(reg, umin, umax)
        if s32(umin) <= s32(umax):
            _narrow_s32(reg, umin, umax)
    if smin >> 32 == smax >> 32:
        if smin & U32_MAX <= smax & U32_MAX:
            _narrow_u32(reg, smin, smax)
        if s32(smin) <= s32(smax):
            _narrow_s32(reg, smin, smax)
    if (umin >> 32) + 1 & U32_MAX == umax >> 32 and s32(umin) < 0 <= s32(umax):
        _narrow_s32(reg, umin, umax)
    if (smin >> 32) + 1 & U32_MAX == smax >> 32 & U32_MAX and s32(smin) < 0 <= s32(smax):
        _narrow_s32(reg, smin, smax)
    if s32(reg.u32min) <= s32(reg.u32max):
        _narrow_s32(reg, reg.u32min, reg.u32max)
    low, high = reg.s32min & U32_MAX, reg.s32max & U32_MAX
    if low <= high:
        _narrow_u32(reg, low, high)
    elif reg.u32max < low:  # as in _deduce64()
        reg.s32min = s32(reg.u32min)
        reg.u32max = min(reg.u32max, high)
    elif high < reg.u32min:
        reg.s32max = s32(reg.u32max)
        reg.u32min = max(reg.u32min, low)


def _deduce64(reg: Reg) -> None:
    """__reg64_deduce_bounds(): signed from unsigned and back, where the sign bit is settled."""
    if s64(reg.umin) <= s64(reg.umax):
        reg.smin = max(reg.smin, s64(reg.umin))
        reg.smax = min(reg.smax, s64(reg.umax))
    low, high = reg.smin & U64_MAX, reg.smax & U64_MAX
    if low <= high:
        reg.umin = max(reg.umin, low)
        reg.umax = min(reg.umax, high)
    elif reg.umax < low:  # the unsigned range meets only the non-negative end of the signed one
        reg.smin = s64(reg.umin)
        reg.umax = min(reg.umax, high)
    elif high < reg.umin:
        reg.smax = s64(reg.umax)
        reg.umin = max(reg.umin, low)


def _deduce_mixed(reg: Reg) -> None:
    """__reg_deduce_mixed_bounds(): tighten 64-bit ends by what the low half can be."""
    upper = ~U32_MAX
    reg.umin = max(reg.umin, reg.umin & upper | reg.u32min)
    reg.umax = min(reg.umax, reg.umax & upper | reg.u32max)
    reg.smin = max(reg.smin, reg.smin & upper | reg.u32min)
    reg.smax = min(reg.smax, reg.smax & upper | reg.u32max)
    if reg.s32min >= 0 and reg.smin >= S32_MIN and reg.smax <= S32_MAX:
        reg.smin = reg.umin = reg.s32min
        reg.smax = reg.umax = reg.s32max
        reg.var_off = tnum.intersect(reg.var_off, tnum.span(reg.smin, reg.smax))


def _bound_offset(reg: Reg) -> None:
    """__reg_bound_offset(): known bits from the ranges."""
    var64 = tnum.intersect(reg.var_off, tnum.span(reg.umin, reg.umax))
    var32 = tnum.intersect(tnum.subreg(var64), tnum.span(reg.u32min, reg.u32max))
    reg.var_off = tnum.or_(tnum.clear_subreg(var64), var32)


def sync(reg: Reg) -> None:
    """reg_bounds_sync(): bring ranges and known bits of `reg` in step."""
    if not reg.var_off.mask and reg.umin == reg.umax and reg.u32min == reg.u32max and reg.smin == reg.smax:
        if reg.s32min == reg.s32max and reg.umin == reg.var_off.value:
            return  # a constant already in step: nothing more to learn
    update_bounds(reg)
    for _ in range(3):
        _deduce32(reg)
        _deduce64(reg)
        _deduce_mixed(reg)
    _bound_offset(reg)
    update_bounds(reg)


def violation(reg: Reg) -> str | None:
    """reg_bounds_sanity_check(): the text of a broken invariant, else None."""
    if reg.umin > reg.umax or reg.smin > reg.smax or reg.u32min > reg.u32max or reg.s32min > reg.s32max:
        return "range bounds violation"
    if not reg.var_off.mask:
        value = reg.var_off.value
        if not (reg.umin == reg.umax == value and reg.smin == reg.smax == s64(value)):
            return "const tnum out of sync with range bounds"
    if not reg.var_off.mask & U32_MAX:
        low = reg.var_off.value & U32_MAX
        if not (reg.u32min == reg.u32max == low and reg.s32min == reg.s32max == s32(low)):
            return "const subreg tnum out of sync with range bounds"
    return None


def assign_32_into_64(reg: Reg) -> None:
    """__reg_assign_32_into_64(): the upper half is zero."""
    reg.umin, reg.umax = reg.u32min, reg.u32max
    if 0 <= reg.s32min <= reg.s32max:
        reg.smin, reg.smax = reg.s32min, reg.s32max
    else:
        reg.smin, reg.smax = 0, U32_MAX


def zext_32_to_64(reg: Reg) -> None:
    """zext_32_to_64(): a 32-bit result in a 64-bit register."""
    reg.var_off = tnum.subreg(reg.var_off)
    assign_32_into_64(reg)


def coerce_to_size(reg: Reg, size: int) -> None:
    """coerce_reg_to_size(): keep `size` (1, 2, 4) bytes, zero-extended."""
    reg.var_off = tnum.cast(reg.var_off, size)
    limit = (1 << (size * 8)) - 1
    if reg.umin & ~limit == reg.umax & ~limit:
        reg.umin &= limit
        reg.umax &= limit
    else:
        reg.umin, reg.umax = 0, limit
    reg.smin, reg.smax = reg.umin, reg.umax
    if size < 4:
        reg.set_unbounded32()
    sync(reg)


def _sign_extend(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def coerce_to_size_sx(reg: Reg, size: int) -> None:
    """coerce_reg_to_size_sx(): keep `size` (1, 2, 4) bytes, sign-extended to 64 bits."""
    bits = size * 8
    if not reg.var_off.mask:
        reg.set_value(_sign_extend(reg.var_off.value, bits))
        return
    top_smax = (reg.smax >> bits) << bits
    top_smin = (reg.smin >> bits) << bits
    if top_smax == top_smin:
        ends = (_sign_extend(reg.smax, bits), _sign_extend(reg.smin, bits))
        high, low = max(ends), min(ends)
        if (high >= 0) == (low >= 0):
            reg.smin = reg.s32min = low
            reg.smax = reg.s32max = high
            reg.umin, reg.umax = low & U64_MAX, high & U64_MAX
            reg.u32min, reg.u32max = low & U32_MAX, high & U32_MAX
            reg.var_off = tnum.span(low & U64_MAX, high & U64_MAX)
            return
    limits = {1: (-128, 127), 2: (-32768, 32767), 4: (S32_MIN, S32_MAX)}[size]
    reg.smin, reg.smax = limits
    reg.s32min, reg.s32max = limits
    reg.umin, reg.umax, reg.u32min, reg.u32max = 0, U64_MAX, 0, U32_MAX
    reg.var_off = tnum.UNKNOWN


def coerce_subreg_to_size_sx(reg: Reg, size: int) -> None:
    """coerce_subreg_to_size_sx(): keep `size` (1, 2) bytes, sign-extended to 32 bits."""
    bits = size * 8
    if not reg.var_off.mask & U32_MAX:
        low = _sign_extend(reg.var_off.value, bits)
        reg.var_off = tnum.with_subreg(reg.var_off, Tnum(low & U32_MAX, 0))
        reg.s32min = reg.s32max = low
        reg.u32min = reg.u32max = low & U32_MAX
        return
    if (reg.s32max >> bits) == (reg.s32min >> bits):
        ends = (_sign_extend(reg.s32max, bits), _sign_extend(reg.s32min, bits))
        high, low = max(ends), min(ends)
        if (high >= 0) == (low >= 0):
            reg.s32min, reg.s32max = low, high
            reg.u32min, reg.u32max = low & U32_MAX, high & U32_MAX
            reg.var_off = tnum.with_subreg(reg.var_off, tnum.span(low & U32_MAX, high & U32_MAX))
            return
    reg.s32min, reg.s32max = {1: (-128, 127), 2: (-32768, 32767)}[size]
    reg.u32min, reg.u32max = 0, U32_MAX
    reg.var_off = tnum.with_subreg(reg.var_off, Tnum(0, U32_MAX))


__all__ = [
    "S64_MAX", "S64_MIN", "assign_32_into_64", "coerce_subreg_to_size_sx", "coerce_to_size", "coerce_to_size_sx",
    "s32", "s64", "sync", "update_bounds", "update_bounds32", "update_bounds64", "violation", "zext_32_to_64",
]  # fmt: skip
