"""What lockdep looks at beside the locks, and what it can find wrong: one record for each kind of report.

Mirrors the arguments of the print_*() functions of kernel/locking/lockdep.c (6.18).
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel_model.locking.classes import LD_WAIT_CONFIG, LD_WAIT_MAX, LD_WAIT_SPIN, HeldLock, LockMap
from kernel_model.locking.graph import Node


@dataclass(frozen=True, slots=True)
class Context:
    """Where the CPU is. Soft interrupts never run here: they are enabled, and never the context."""

    hardirqs_on: bool = True
    in_hardirq: bool = False
    softirqs_on: bool = True
    in_softirq: bool = False
    irq_config: bool = False  # the hard interrupt's handler would be threaded with PREEMPT_RT

    @property
    def irq_context(self) -> int:
        """task_irq_context()."""
        return 2 * self.in_hardirq + self.in_softirq

    @property
    def wait_type(self) -> int:
        """task_wait_context(): what may be taken with nothing held."""
        if self.in_hardirq and not self.irq_config:
            return LD_WAIT_SPIN
        return LD_WAIT_CONFIG if self.in_hardirq or self.in_softirq else LD_WAIT_MAX


@dataclass(frozen=True, slots=True)
class Deadlock:
    """A lock of a class that the task already holds."""

    prev: HeldLock
    next: HeldLock


@dataclass(frozen=True, slots=True)
class Circular:
    """`path` leads from the new lock's class to that of a held one: the order was the other way round before."""

    prev: HeldLock
    next: HeldLock
    path: list[Node]


@dataclass(frozen=True, slots=True)
class WaitContext:
    """A lock that may sleep (or spin longer) inside one that must not."""

    lock: HeldLock
    context: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A lock taken in an interrupt, and elsewhere with interrupts enabled."""

    lock: HeldLock
    prev_bit: int
    new_bit: int


@dataclass(frozen=True, slots=True)
class Inversion:
    """The lock's new usage contradicts that of a lock which was taken under it (`forwards`) or over it."""

    lock: HeldLock
    path: list[Node]
    forwards: bool
    bit: int


@dataclass(frozen=True, slots=True)
class BadDependency:
    """The new order connects a lock that interrupts take with one that is held while they are enabled."""

    prev: HeldLock
    next: HeldLock
    safe: list[Node]  # backwards, from prev
    unsafe: list[Node]  # forwards, from next
    safe_bit: int
    unsafe_bit: int


@dataclass(frozen=True, slots=True)
class Imbalance:
    """Released by a task that does not hold it."""

    lock: LockMap
    ip: int


@dataclass(frozen=True, slots=True)
class NestNotHeld:
    """Taken under a nest_lock, called `name`, that the task does not hold."""

    lock: HeldLock
    name: str


@dataclass(frozen=True, slots=True)
class Freed:
    """Memory of a held lock is freed or made a lock again."""

    lock: HeldLock
    start: int
    end: int


Problem = Deadlock | Circular | WaitContext | Usage | Inversion | BadDependency | Imbalance | NestNotHeld | Freed
