"""kcalls: kernel functions that guest text calls and Python implements.

Guest C calls them under their kernel names; the image's build makes a stub for each, and boot binds the stub to the
method of that name. Arguments arrive decoded by the C prototype in the image's BTF.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from kernel_model.errors import KemuError, MissingSymbolsError

F = TypeVar("F", bound=Callable[..., Any])


def kcall(function: F) -> F:
    """Mark a method as the implementation of the kernel function of its name.

    A generator method is a call that may sleep: see kernel_model/sched/requests.py.
    """
    function.__kcall__ = True  # type: ignore[attr-defined]
    return function


Decoder = Callable[[int], Any]


def _signed(bits: int) -> Decoder:
    half, full = 1 << (bits - 1), 1 << bits

    def decode(value: int) -> int:
        value &= full - 1
        return value - full if value & half else value

    return decode


# argument letters of the image's table: how a register becomes the argument
_DECODERS: dict[str, Decoder | None] = {
    "p": None,
    "l": _signed(64),
    "u": lambda v: v & 0xFFFFFFFF,
    "i": _signed(32),
    "h": lambda v: v & 0xFFFF,
    "s": _signed(16),
    "c": lambda v: v & 0xFF,
    "a": _signed(8),
    "b": lambda v: bool(v & 0xFF),
}


def collect(subsystems: Iterable[object]) -> dict[str, Callable[..., Any]]:
    """Every @kcall method of the objects, by kernel function name; a name implemented twice is a KemuError."""
    found: dict[str, Callable[..., Any]] = {}
    for subsystem in subsystems:
        for base in type(subsystem).__mro__:
            for function in vars(base).values():
                if not hasattr(function, "__kcall__"):
                    continue
                name = function.__name__
                bound = function.__get__(subsystem)
                if name in found and found[name] != bound:
                    raise KemuError(f"kernel function {name} is implemented twice")
                found[name] = bound
    return found


def bind(table: Iterable[tuple[str, str]], implementations: dict[str, Callable[..., Any]]) -> list[Callable[..., Any]]:
    """For each (name, signature) of the image a function of six register values that gives the result register, or
    the generator of a call that may sleep.

    MissingSymbolsError lists the names that nobody implements.
    """
    table = list(table)
    missing = [name for name, _ in table if name not in implementations]
    if missing:
        raise MissingSymbolsError(f"kernel functions that nobody implements: {', '.join(missing)}")
    return [_adapter(implementations[name], signature) for name, signature in table]


def _adapter(function: Callable[..., Any], signature: str) -> Callable[..., Any]:
    sleeping = inspect.isgeneratorfunction(function)
    decoders = [_DECODERS[letter] for letter in signature[1:]]
    count = len(decoders)
    if all(decoder is None for decoder in decoders):

        def plain(*registers: int) -> Any:
            value = function(*registers[:count])
            return value if sleeping else result(value)

        return plain

    def decoded(*registers: int) -> Any:
        values = [v if d is None else d(v) for d, v in zip(decoders, registers, strict=False)]
        value = function(*values)
        return value if sleeping else result(value)

    return decoded


def result(value: int | None) -> int:
    """What the result register holds."""
    return 0 if value is None else int(value) & 0xFFFF_FFFF_FFFF_FFFF
