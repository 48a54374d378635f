"""kcalls: kernel functions that guest text calls and Python implements.

Guest C calls them under their kernel names; the image's build makes a stub for each, and boot binds the stub to the
method of that name. Arguments arrive decoded by the C prototype in the image's BTF.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from kernel_model.errors import KemuError, MissingSymbolsError, NotModelledError

F = TypeVar("F", bound=Callable[..., Any])


@overload
def kcall(function: F) -> F: ...
@overload
def kcall(*, sync: bool = False) -> Callable[[F], F]: ...


def kcall(function: F | None = None, *, sync: bool = False) -> F | Callable[[F], F]:
    """Mark a method as the implementation of the kernel function of its name.

    `sync` makes the call a decision point of the scheduler. A generator method is a call that may sleep.
    """

    def mark(target: F) -> F:
        target.__kcall__ = sync  # type: ignore[attr-defined]
        return target

    return mark if function is None else mark(function)


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


def bind(table: Iterable[tuple[str, str]], implementations: dict[str, Callable[..., Any]]) -> list[Callable[..., int]]:
    """For each (name, signature) of the image a function of six register values that gives the result register.

    MissingSymbolsError lists the names that nobody implements.
    """
    table = list(table)
    missing = [name for name, _ in table if name not in implementations]
    if missing:
        raise MissingSymbolsError(f"kernel functions that nobody implements: {', '.join(missing)}")
    return [_adapter(implementations[name], signature) for name, signature in table]


def _run_through(function: Callable[..., Any]) -> Callable[..., Any]:
    """A call that may sleep, on a machine whose tasks run one after the other: it may finish, not block."""

    def call(*arguments: Any) -> Any:
        try:
            waits_for = next(function(*arguments))
        except StopIteration as done:
            return done.value
        name = getattr(function, "__name__", "a kernel function")
        raise NotModelledError(f"{name}: the task would sleep ({waits_for}), and nothing else runs that could wake it")

    return call


def _adapter(function: Callable[..., Any], signature: str) -> Callable[..., int]:
    if inspect.isgeneratorfunction(function):
        function = _run_through(function)
    decoders = [_DECODERS[letter] for letter in signature[1:]]
    count = len(decoders)
    if all(decoder is None for decoder in decoders):

        def plain(*registers: int) -> int:
            return _result(function(*registers[:count]))

        return plain

    def decoded(*registers: int) -> int:
        values = [v if d is None else d(v) for d, v in zip(decoders, registers, strict=False)]
        return _result(function(*values))

    return decoded


def _result(value: int | None) -> int:
    return 0 if value is None else int(value) & 0xFFFF_FFFF_FFFF_FFFF
