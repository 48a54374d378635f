"""The kernel's printf: conversions, widths and the %p extensions that reports use.

Mirrors lib/vsprintf.c (format_decode, number, pointer) and, for programs' format strings, the rules of
kernel/bpf/helpers.c:bpf_bprintf_prepare. Leaves out %p extensions of devices, MAC addresses and the like: they come
out as NotModelledError. Pointers of plain %p are hashed as in the kernel, by a fixed key: every boot is the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from kernel_model.errors import NotModelledError

_U64 = 0xFFFF_FFFF_FFFF_FFFF
_SPEC = re.compile(r"%([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+))?(hh|h|ll|l|z|t)?(p[a-zA-Z0-9]*|[diuxXocs%])")
_WIDTH_BITS = {"hh": 8, "h": 16, None: 32, "l": 64, "ll": 64, "z": 64, "t": 64}
MAX_BPRINTF_VARARGS = 12
MAX_BPRINTF_BUF = 1024
EINVAL, E2BIG = 22, 7


@dataclass(frozen=True, slots=True)
class Environment:
    """What conversions need of the kernel: strings in memory and symbols."""

    read_string: Callable[[int], bytes | None]  # NUL-terminated string at a kernel address, None where unreadable
    symbol: Callable[[int], str]  # %pS: "name+0xoff/0xsize [module]", "0x..." where there is no symbol


class _Conversion(NamedTuple):
    """One %[flags][width][.precision][length]conversion, as written."""

    flags: str
    width: str | None
    precision: str | None
    length: str | None
    kind: str


def hash_pointer(pointer: int) -> int:
    """What %p prints instead of the address: 32 bits of a keyed hash (ptr_to_hashval()); the key never changes."""
    digest = hashlib.blake2s((pointer & _U64).to_bytes(8, "little"), key=b"kemu ptr_key", digest_size=4).digest()
    return int.from_bytes(digest, "little")


def vsprintf(fmt: str, args: Sequence[int], env: Environment) -> str:
    """Format `args` (unsigned 64-bit register values) by `fmt`. Raises NotModelledError for an unknown conversion."""
    values = iter(args)
    literals, conversions = format_decode(fmt)
    out = []
    for literal, conversion in zip(literals, conversions, strict=False):
        out.append(literal)
        out.append(_convert(conversion, values, env))
    out.append(literals[-1])
    return "".join(out)


@lru_cache(maxsize=256)
def format_decode(fmt: str) -> tuple[list[str], list[_Conversion]]:
    """The texts around the conversions of a format, one more than these, and what is known of the conversions.

    Raises NotModelledError for an unknown one. Kept per format: a fault storm prints the same ones again and again.
    """
    literals, conversions = [], []
    position = 0
    for match in _SPEC.finditer(fmt):
        literals.append(fmt[position : match.start()])
        conversions.append(_Conversion(*match.groups()))
        position = match.end()
    literals.append(fmt[position:])
    if any("%" in piece for piece in literals):
        raise NotModelledError(f"printk format {fmt!r} has a conversion that is not modelled")
    return literals, conversions


def _number(text: str | None, values: Iterator[int]) -> int | None:
    if text is None:
        return None
    if text == "*":
        value = next(values, 0) & 0xFFFFFFFF
        return value - (1 << 32) if value >> 31 else value
    return int(text)


def _convert(spec: _Conversion, values: Iterator[int], env: Environment) -> str:
    flags, width_text, precision_text, length, conversion = spec
    if conversion == "%":
        return "%"
    if conversion == "s" and not (flags or width_text or precision_text):
        return _string(next(values, 0) & _U64, None, env)  # most conversions of a report
    width = _number(width_text, values)
    precision = _number(precision_text, values)
    left = "-" in flags
    if width is not None and width < 0:
        left, width = True, -width
    value = next(values, 0) & _U64
    zero = "0" in flags and not left
    if conversion == "c":
        text, zero = chr(value & 0xFF), False
    elif conversion == "s":
        text, zero = _string(value, precision, env), False
    elif conversion.startswith("p"):
        text, zero = _pointer(value, conversion[1:], env, precision), False
    else:
        text = _integer(value, conversion, length, flags, precision)
        zero = zero and precision is None
    if width is None or len(text) >= width:
        return text
    if left:
        return text.ljust(width)
    if zero:
        sign = re.match(r"[-+ ]?(0[xX])?", text)
        head = sign[0] if sign else ""
        return head + text[len(head) :].rjust(width - len(head), "0")
    return text.rjust(width)


def _integer(value: int, conversion: str, length: str | None, flags: str, precision: int | None) -> str:
    bits = _WIDTH_BITS[length]
    value &= (1 << bits) - 1
    negative = conversion in "di" and bool(value >> (bits - 1))
    if negative:
        value = (1 << bits) - value
    digits = format(value, "d" if conversion in "diu" else conversion)
    if precision is not None:
        digits = digits.rjust(precision, "0")
    if "#" in flags and conversion in "xXo":
        digits = {"x": "0x", "X": "0X", "o": "0"}[conversion] + digits
    if negative:
        return "-" + digits
    if conversion in "di" and "+" in flags:
        return "+" + digits
    return " " + digits if conversion in "di" and " " in flags else digits


def _string(address: int, precision: int | None, env: Environment) -> str:
    if address == 0:
        text = "(null)"
    elif address < 4096 or (raw := env.read_string(address)) is None:
        text = "(efault)"
    else:
        text = raw.decode("latin-1")
    return text if precision is None else text[:precision]


def _pointer(value: int, kind: str, env: Environment, precision: int | None) -> str:
    head = kind[:1]
    if head in ("S", "B"):
        return env.symbol(value)
    if head == "s":
        return env.symbol(value).split("+")[0]
    if head == "x":
        return f"{value:016x}"
    if kind in ("ks", "us"):
        return _string(value, precision, env)
    if head in ("", "K"):
        if value == 0 or value >= _U64 - 4094:  # IS_ERR_OR_NULL is printed as it is
            return f"{value:016x}"
        return f"{hash_pointer(value):016x}"
    raise NotModelledError(f"printk conversion %p{kind} is not modelled")


_BPRINTF = re.compile(r"%(?:%|[-+ #0]*\d*(?:(?:p(?:[ksu]{0,2}|[xKSB]|[iI][46])?(?![a-zA-Z0-9]))|(?:ll?)?[diuxX]|c|s))")


def bprintf_args(fmt: str, count: int) -> int:
    """bpf_bprintf_prepare()'s checks of a program's format: 0, or -EINVAL (unknown conversion, a character that is
    not printable ASCII, or another number of conversions than `count` arguments), or -E2BIG past 12 arguments."""
    if count > MAX_BPRINTF_VARARGS:
        return -E2BIG
    if any(not (32 <= ord(c) < 127 or c in "\t\n\v\f\r") for c in fmt):
        return -EINVAL
    needed = 0
    position = 0
    while (at := fmt.find("%", position)) >= 0:
        match = _BPRINTF.match(fmt, at)
        if match is None:
            return -EINVAL
        needed += match[0] != "%%"
        position = match.end()
    return 0 if needed == count else -EINVAL
