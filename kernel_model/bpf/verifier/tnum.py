"""Tracked numbers: which bits of a value are known. Mirrors kernel/bpf/tnum.c and include/linux/tnum.h (6.18).

    mask bit 1: unknown, and then the value bit is 0        mask bit 0: known, the value bit is the bit

Numbers are unsigned 64 bit. tnum_mul() is the union-based one of Linux 6.18; left out: the alignment
helpers that nobody here calls.
"""

from __future__ import annotations

from typing import NamedTuple

U64 = 0xFFFF_FFFF_FFFF_FFFF
U32 = 0xFFFF_FFFF


class Tnum(NamedTuple):
    """A partially known unsigned 64-bit number."""

    value: int
    mask: int

    def __str__(self) -> str:
        return f"(0x{self.value:x}; 0x{self.mask:x})"


UNKNOWN = Tnum(0, U64)
ZERO = Tnum(0, 0)


def const(value: int) -> Tnum:
    """A completely known number."""
    return Tnum(value & U64, 0)


def is_const(a: Tnum) -> bool:
    """True where every bit is known."""
    return a.mask == 0


def span(low: int, high: int) -> Tnum:
    """tnum_range(): the smallest tnum that holds every value of [low, high], both unsigned."""
    bits = (low ^ high).bit_length()
    if bits > 63:
        return UNKNOWN
    delta = (1 << bits) - 1
    return Tnum(low & ~delta, delta)


def step(a: Tnum, beyond: int) -> int:
    """tnum_step(): the smallest number of `a` above `beyond`; its largest where there is none."""
    least = beyond + 1
    if least > a.value | a.mask:
        return a.value | a.mask
    if (least & ~a.mask) == a.value:
        return least
    for bit in range(64):  # agree with `least` above the bit, have it where `least` does not, be minimal below
        above = -1 << bit + 1
        one = 1 << bit
        if least & one or not (a.value | a.mask) & one or (least & ~a.mask ^ a.value) & above & U64:
            continue
        return least & above & U64 | one | a.value & one - 1
    return a.value


def lshift(a: Tnum, shift: int) -> Tnum:
    return Tnum(a.value << shift & U64, a.mask << shift & U64)


def rshift(a: Tnum, shift: int) -> Tnum:
    return Tnum(a.value >> shift, a.mask >> shift)


def _sar(value: int, shift: int, bits: int) -> int:
    limit = (1 << bits) - 1
    value &= limit
    return ((value - (1 << bits) if value >> (bits - 1) else value) >> shift) & limit


def arshift(a: Tnum, shift: int, bits: int) -> Tnum:
    """Arithmetic shift of the low `bits` (32 or 64); the upper half of a 32-bit result is zero."""
    return Tnum(_sar(a.value, shift, bits), _sar(a.mask, shift, bits))


def add(a: Tnum, b: Tnum) -> Tnum:
    sm = a.mask + b.mask
    sv = a.value + b.value
    chi = (sm + sv) ^ sv
    mu = (chi | a.mask | b.mask) & U64
    return Tnum(sv & ~mu & U64, mu)


def sub(a: Tnum, b: Tnum) -> Tnum:
    dv = a.value - b.value
    mu = (((dv + a.mask) ^ (dv - b.mask)) | a.mask | b.mask) & U64
    return Tnum(dv & ~mu & U64, mu)


def neg(a: Tnum) -> Tnum:
    return sub(ZERO, a)


def and_(a: Tnum, b: Tnum) -> Tnum:
    v = a.value & b.value
    return Tnum(v, (a.value | a.mask) & (b.value | b.mask) & ~v)


def or_(a: Tnum, b: Tnum) -> Tnum:
    v = a.value | b.value
    return Tnum(v, (a.mask | b.mask) & ~v)


def xor(a: Tnum, b: Tnum) -> Tnum:
    mu = a.mask | b.mask
    return Tnum((a.value ^ b.value) & ~mu, mu)


def union(a: Tnum, b: Tnum) -> Tnum:
    """The smallest tnum that holds every value of either."""
    mu = (a.value ^ b.value) | a.mask | b.mask
    return Tnum(a.value & b.value & ~mu, mu)


def intersect(a: Tnum, b: Tnum) -> Tnum:
    """Bits known in either; wrong where the two contradict each other, as in the kernel."""
    mu = a.mask & b.mask
    return Tnum((a.value | b.value) & ~mu, mu)


def mul(a: Tnum, b: Tnum) -> Tnum:
    """Long multiplication; an unknown multiplier bit joins both partial sums."""
    acc = ZERO
    while a.value or a.mask:
        if a.value & 1:
            acc = add(acc, b)
        elif a.mask & 1:
            acc = union(acc, add(acc, b))
        a = rshift(a, 1)
        b = lshift(b, 1)
    return acc


def overlap(a: Tnum, b: Tnum) -> bool:
    """True where some number may be both."""
    known = ~(a.mask | b.mask)
    return a.value & known == b.value & known


def contains(a: Tnum, b: Tnum) -> bool:
    """tnum_in(): every value of `b` is one of `a`."""
    return not b.mask & ~a.mask and a.value == b.value & ~a.mask


def cast(a: Tnum, size: int) -> Tnum:
    """Keep the low `size` bytes."""
    limit = (1 << (size * 8)) - 1
    return Tnum(a.value & limit, a.mask & limit)


def subreg(a: Tnum) -> Tnum:
    """The low 32 bits."""
    return Tnum(a.value & U32, a.mask & U32)


def clear_subreg(a: Tnum) -> Tnum:
    return Tnum(a.value & ~U32, a.mask & ~U32)


def with_subreg(a: Tnum, low: Tnum) -> Tnum:
    """`a` with its low 32 bits replaced by those of `low`."""
    return Tnum(a.value & ~U32 | low.value & U32, a.mask & ~U32 | low.mask & U32)
