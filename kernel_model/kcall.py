"""kcalls: kernel functions that guest text calls and Python implements.

Guest C calls them under their kernel names; the image's build makes a stub for each, and boot binds the stub to the
method of that name. Arguments arrive decoded by the C prototype in the image's BTF.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

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
