"""What a kcall that may sleep asks of the scheduler.

Mirrors no Linux file. Such a kcall is a generator; it yields one of these and goes on when that is done. Whether a task
continues, and when, is the scheduler's business (kernel_model/sched/core.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any


class GuestCall:
    """Run a guest function on the task's own stack, where it may itself sleep; the yield gives its unsigned result.

    To a stack walk the function was called by what lies before `return_address` (None: by the machine), and that
    through the calls that `frames` gives the return addresses of, outermost first.
    """

    __slots__ = ("arguments", "frames", "function", "return_address")

    def __init__(
        self, function: str | int, *arguments: int, return_address: int | None = None, frames: Sequence[int] = ()
    ) -> None:
        self.function = function  # a symbol of the image or an address
        self.arguments = arguments
        self.return_address = return_address
        self.frames = frames


@dataclass(frozen=True, slots=True)
class Block:
    """The task's __state is set: it leaves its CPU until something makes it runnable again."""


@dataclass(frozen=True, slots=True)
class Point:
    """A decision point: the task stays runnable, another may be chosen first. `kind` says where, e.g. "spin"."""

    kind: str


Request = GuestCall | Block | Point
Sleeping = Generator[Request, Any, Any]  # what a kcall that may sleep returns
