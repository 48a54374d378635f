"""The words of lockdep's reports, up to the stack that the guest itself walks.

Mirrors print_lock(), lockdep_print_held_locks(), print_deadlock_bug(), print_circular_bug() and
print_unlock_imbalance_bug() (kernel/locking/lockdep.c, 6.18).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernel_model.locking.classes import HeldLock, LockClass
from kernel_model.oops.common import System
from kernel_model.sched.task import Task

Symbol = Callable[[int], str]


def lock_line(lock: HeldLock, symbol: Symbol) -> str:
    """print_lock()."""
    return f"{lock.instance:016x} {lock.cls.text}, at: {symbol(lock.acquire_ip)}"


def held_locks(task: Task, held: Sequence[HeldLock], symbol: Symbol) -> list[str]:
    """lockdep_print_held_locks()."""
    if not held:
        return [f"no locks held by {task.comm}/{task.pid}."]
    plural = "s" if len(held) > 1 else ""
    lines = [f"{len(held)} lock{plural} held by {task.comm}/{task.pid}:"]
    return lines + [f" #{i}: {lock_line(lock, symbol)}" for i, lock in enumerate(held)]


def _ident(system: System) -> str:
    """print_kernel_ident()."""
    return f"{system.profile.release} {system.profile.version} {system.taint}"


def _banner(mark: str, title: str, system: System) -> list[str]:
    return ["", mark * len(title), title, _ident(system), "-" * len(title)]


def recursive(
    system: System, task: Task, old: HeldLock, new: HeldLock, held: Sequence[HeldLock], symbol: Symbol
) -> list[str]:
    """print_deadlock_bug()."""
    name = new.cls.label
    return [
        *_banner("=", "WARNING: possible recursive locking detected", system),
        f"{task.comm}/{task.pid} is trying to acquire lock:", lock_line(new, symbol), "",
        "but task is already holding lock:", lock_line(old, symbol), "",
        "other info that might help us debug this:",
        " Possible unsafe locking scenario:", "", "       CPU0", "       ----",
        f"  lock({old.cls.label});", f"  lock({name});", "", " *** DEADLOCK ***", "",
        " May be due to missing lock nesting notation", "",
        *held_locks(task, held, symbol), "", "stack backtrace:",
    ]


def circular(
    system: System, task: Task, old: HeldLock, new: HeldLock, path: Sequence[LockClass], held: Sequence[HeldLock],
    symbol: Symbol, here: Sequence[str],
) -> list[str]:
    """print_circular_bug(): `path` leads from the new lock's class to the held one's, `here` is the current stack."""
    lines = [
        *_banner("=", "WARNING: possible circular locking dependency detected", system),
        f"{task.comm}/{task.pid} is trying to acquire lock:", lock_line(new, symbol), "",
        "but task is already holding lock:", lock_line(old, symbol), "",
        "which lock already depends on the new lock.", "", "",
        "the existing dependency chain (in reverse order) is:",
    ]
    for depth in range(len(path) - 1, 0, -1):
        lines += ["", f"-> #{depth} {path[depth].text}:", *_entries(path[depth - 1].after[path[depth]])]
    lines += ["", f"-> #0 {path[0].text}:", *_entries(here), "", "other info that might help us debug this:", ""]
    if len(path) > 2:
        chain = " --> ".join(cls.label for cls in (path[0], *path[1:]))
        lines += ["Chain exists of:", f"  {chain}", ""]
    parent = path[-2] if len(path) > 2 else path[0]
    lines += [
        " Possible unsafe locking scenario:", "", "       CPU0                    CPU1",
        "       ----                    ----", f"  lock({old.cls.label});",
        f"                               lock({parent.label});",
        f"                               lock({old.cls.label});",
        f"  lock({new.cls.label});", "", " *** DEADLOCK ***", "", *held_locks(task, held, symbol), "",
        "stack backtrace:",
    ]
    return lines


def frames(trace: Sequence[str]) -> list[str]:
    """The reliable entries of a `Call Trace:`, without what stands between them."""
    return [line.split()[0] for line in trace if line.startswith(" ") and not line.startswith((" <", " ?"))]


def _entries(trace: Sequence[str]) -> list[str]:
    """stack_trace_print() at indent 6."""
    return [f"       {entry}" for entry in trace]


def unbalanced(
    system: System, task: Task, name: str, ip: int, held: Sequence[HeldLock], symbol: Symbol
) -> list[str]:
    """print_unlock_imbalance_bug()."""
    lines = [
        *_banner("=", "WARNING: bad unlock balance detected!", system),
        f"{task.comm}/{task.pid} is trying to release lock ({name}) at:", f"[<{ip:016x}>] {symbol(ip)}",
        "but there are no more locks to release!", "", "other info that might help us debug this:",
    ]
    return [*lines, *held_locks(task, held, symbol), "", "stack backtrace:"]
