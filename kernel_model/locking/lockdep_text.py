"""The words of lockdep's reports, up to the stack that the guest itself walks.

Mirrors print_lock(), lockdep_print_held_locks() and the print_*() functions of kernel/locking/lockdep.c (6.18): one
function for each problem of kernel_model/locking/problems.py. `TEXTS` has them by type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kernel_model.locking.classes import USAGE_NAMES, HeldLock, LockClass, state_name
from kernel_model.locking.graph import Node
from kernel_model.locking.problems import (
    BadDependency,
    Circular,
    Context,
    Deadlock,
    Freed,
    Imbalance,
    Inversion,
    NestNotHeld,
    Problem,
    Usage,
    WaitContext,
)
from kernel_model.oops.common import System
from kernel_model.sched.task import Task

Symbol = Callable[[int], str]
_FRAME = re.compile(r"(?: |RIP: 0010:)([^ <?]\S*(?: \[\w+\])?)")


@dataclass(frozen=True, slots=True)
class Scene:
    """What every report speaks of: the task, what it holds, where it is, and the stack at the moment."""

    system: System
    task: Task
    held: Sequence[HeldLock]
    context: Context
    stack: Sequence[str]

    @property
    def who(self) -> str:
        """`comm/pid`."""
        return f"{self.task.comm}/{self.task.pid}"

    @property
    def state(self) -> str:
        """`[HC..:SC..:HE.:SE.]`: interrupt contexts, and which interrupts are enabled."""
        c = self.context
        return (f"[HC{c.in_hardirq:d}[{c.in_hardirq:d}]:SC{c.in_softirq:d}[{c.in_softirq:d}]:"
                f"HE{c.hardirqs_on:d}:SE{c.softirqs_on:d}]")  # fmt: skip

    def symbol(self, address: int) -> str:
        """%pS."""
        return self.system.kallsyms.symbol(address)

    def line(self, lock: HeldLock) -> str:
        """print_lock()."""
        return lock_line(lock, self.symbol)

    def banner(self, title: str) -> list[str]:
        """The frame around a title, with the kernel's name."""
        return ["", "=" * len(title), title, ident(self.system), "-" * len(title)]

    def held_locks(self) -> list[str]:
        """lockdep_print_held_locks()."""
        return held_locks(self.task, self.held, self.symbol)


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


def ident(system: System) -> str:
    """print_kernel_ident()."""
    return f"{system.profile.release} {system.profile.version} {system.taint}"


def ip_sym(ip: int, symbol: Symbol) -> str:
    """print_ip_sym()."""
    return f"[<{ip:016x}>] {symbol(ip)}"


def irqtrace_events(task: Task, symbol: Symbol) -> list[str]:
    """print_irqtrace_events(). Soft interrupts do not run here: they have no events."""
    trace = task.view.irqtrace
    rows = (("hardirqs last  enabled", trace.hardirq_enable_event, trace.hardirq_enable_ip),
            ("hardirqs last disabled", trace.hardirq_disable_event, trace.hardirq_disable_ip),
            ("softirqs last  enabled", 0, 0), ("softirqs last disabled", 0, 0))  # fmt: skip
    return [f"irq event stamp: {trace.irq_events}",
            *(f"{what} at ({event}): {ip_sym(int(ip), symbol)}" for what, event, ip in rows)]  # fmt: skip


def frames(trace: Sequence[str]) -> list[str]:
    """The reliable entries of a `Call Trace:`, with where the kernel was interrupted, without what else is between."""
    return [found[1] for line in trace if (found := _FRAME.match(line))]


def _entries(trace: Sequence[str], spaces: int = 7) -> list[str]:
    """print_lock_trace()."""
    return [" " * spaces + entry for entry in trace]


# -- order -----------------------------------------------------------------------------------------------------------


def deadlock(s: Scene, p: Deadlock) -> list[str]:
    """print_deadlock_bug()."""
    return [
        *s.banner("WARNING: possible recursive locking detected"),
        f"{s.who} is trying to acquire lock:", s.line(p.next), "",
        "but task is already holding lock:", s.line(p.prev), "",
        "other info that might help us debug this:",
        " Possible unsafe locking scenario:", "", "       CPU0", "       ----",
        f"  lock({p.prev.cls.label});", f"  lock({p.next.cls.label});", "", " *** DEADLOCK ***", "",
        " May be due to missing lock nesting notation", "",
        *s.held_locks(), "", "stack backtrace:",
    ]  # fmt: skip


def circular(s: Scene, p: Circular) -> list[str]:
    """print_circular_bug(). The new lock's own entry shows the stack of the moment."""
    lines = [
        *s.banner("WARNING: possible circular locking dependency detected"),
        f"{s.who} is trying to acquire lock:", s.line(p.next), "",
        "but task is already holding lock:", s.line(p.prev), "",
        "which lock already depends on the new lock.", "", "",
        "the existing dependency chain (in reverse order) is:",
    ]  # fmt: skip
    for depth in range(len(p.path) - 1, -1, -1):
        node = p.path[depth]
        trace = node.edge.trace if node.edge is not None else s.stack
        lines += ["", f"-> #{depth} {node.cls.text}:", *_entries(trace)]
    lines += ["", "other info that might help us debug this:", ""]
    return [*lines, *_circular_scenario(p), *s.held_locks(), "", "stack backtrace:"]


def _circular_scenario(p: Circular) -> list[str]:
    """print_circular_lock_scenario(): the held lock on the left, what stands between it and the new one on the right.

    `rlock` is a recursive reader's.
    """
    source, target, parent = p.next.cls, p.prev.cls, p.path[-1].parent
    parent_class = parent.cls if parent is not None else source
    lines = []
    if parent_class is not source:
        lines += ["Chain exists of:", f"  {source.label} --> {parent_class.label} --> {target.label}", ""]
    take_target = "rlock" if p.prev.read else "lock"
    take_source = "rlock" if p.next.read else "lock"
    right = " " * 31
    return [
        *lines, " Possible unsafe locking scenario:", "", "       CPU0                    CPU1",
        "       ----                    ----", f"  {take_target}({target.label});",
        f"{right}lock({parent_class.label});", f"{right}lock({target.label});", f"  {take_source}({source.label});", "",
        " *** DEADLOCK ***", "",
    ]  # fmt: skip


def wait_context(s: Scene, p: WaitContext) -> list[str]:
    """print_lock_invalid_wait_context()."""
    return [
        *s.banner("[ BUG: Invalid wait context ]"), f"{s.who} is trying to lock:", s.line(p.lock),
        "other info that might help us debug this:", f"context-{{{p.context}:{p.context}}}", *s.held_locks(),
        "stack backtrace:",
    ]  # fmt: skip


def nest_not_held(s: Scene, p: NestNotHeld) -> list[str]:
    """print_lock_nested_lock_not_held()."""
    return [
        *s.banner("WARNING: Nested lock was not taken"), f"{s.who} is trying to lock:", s.line(p.lock), "",
        "but this task is not holding:", p.name, "", "stack backtrace:",
    ]  # fmt: skip


def nest_not_held_more(s: Scene) -> list[str]:
    """The second half of print_lock_nested_lock_not_held()."""
    return ["", "other info that might help us debug this:", *s.held_locks(), "", "stack backtrace:"]


# -- interrupts ------------------------------------------------------------------------------------------------------


def usage(s: Scene, p: Usage) -> list[str]:
    """print_usage_bug()."""
    before, now, cls = USAGE_NAMES[p.prev_bit], USAGE_NAMES[p.new_bit], p.lock.cls
    return [
        *s.banner("WARNING: inconsistent lock state"),
        f"inconsistent {{{before}}} -> {{{now}}} usage.", f"{s.who} {s.state} takes:", s.line(p.lock),
        f"{{{before}}} state was registered at:", *_entries(cls.usage_traces.get(p.prev_bit, ()), 2),
        *irqtrace_events(s.task, s.symbol), "", "other info that might help us debug this:",
        " Possible unsafe locking scenario:", "", "       CPU0", "       ----", f"  lock({cls.label});",
        "  <Interrupt>", f"    lock({cls.label});", "", " *** DEADLOCK ***", "", *s.held_locks(), "",
        "stack backtrace:",
    ]  # fmt: skip


def inversion(s: Scene, p: Inversion) -> list[str]:
    """print_irq_inversion_bug()."""
    name, first, other = state_name(p.bit), p.path[0].cls, p.path[-1].cls
    middle = p.path[1].cls if len(p.path) > 1 else first
    which = f"took another, {name}-unsafe" if p.forwards else f"was taken by another, {name}-safe"
    scenario = _irq_scenario(first, other, middle, other) if p.forwards else _irq_scenario(other, first, middle, first)
    return [
        *s.banner("WARNING: possible irq lock inversion dependency detected"),
        f"{s.who} just changed the state of lock:", s.line(p.lock), f"but this lock {which} lock in the past:",
        f" {other.text}", "", "", "and interrupts could create inverse lock ordering between them.", "", "",
        "other info that might help us debug this:", *scenario, *s.held_locks(), "",
        "the shortest dependencies between 2nd lock and 1st lock:", *_dependencies(s, p.path), "", "stack backtrace:",
    ]  # fmt: skip


def bad_dependency(s: Scene, p: BadDependency) -> list[str]:
    """print_bad_irq_dependency()."""
    name, safe, unsafe = state_name(p.safe_bit), p.safe[-1].cls, p.unsafe[-1].cls
    return [
        "", "=" * 53,
        f"WARNING: {name}-safe -> {name}-unsafe lock order detected", ident(s.system), "-" * 53,
        f"{s.who} {s.state} is trying to acquire:", s.line(p.next), "", "and this task is already holding:",
        s.line(p.prev), "which would create a new lock dependency:", f" {p.prev.cls.text} -> {p.next.cls.text}", "",
        f"but this new dependency connects a {name}-irq-safe lock:", f" {safe.text}", "",
        f"... which became {name}-irq-safe at:", *_entries(safe.usage_traces.get(p.safe_bit, ()), 2), "",
        f"to a {name}-irq-unsafe lock:", f" {unsafe.text}", "", f"... which became {name}-irq-unsafe at:", "...",
        *_entries(unsafe.usage_traces.get(p.unsafe_bit, ()), 2), "", "other info that might help us debug this:", "",
        *_irq_scenario(safe, unsafe, p.prev.cls, p.next.cls), *s.held_locks(), "",
        f"the dependencies between {name}-irq-safe lock and the holding lock:", *_dependencies_backwards(s, p.safe), "",
        "the dependencies between the lock to be acquired", f" and {name}-irq-unsafe lock:",
        *_dependencies(s, p.unsafe), "", "stack backtrace:",
    ]  # fmt: skip


def _irq_scenario(safe: LockClass, unsafe: LockClass, prev: LockClass, following: LockClass) -> list[str]:
    """print_irq_lock_scenario()."""
    middle = following if prev is safe else prev
    lines = []
    if middle is not unsafe:
        lines = ["Chain exists of:", f"  {safe.label} --> {middle.label} --> {unsafe.label}", ""]
    right = " " * 31
    return [
        *lines, " Possible interrupt unsafe locking scenario:", "", "       CPU0                    CPU1",
        "       ----                    ----", f"  lock({unsafe.label});", f"{right}local_irq_disable();",
        f"{right}lock({safe.label});", f"{right}lock({middle.label});", "  <Interrupt>", f"    lock({safe.label});",
        "", " *** DEADLOCK ***", "",
    ]  # fmt: skip


def _class_header(s: Scene, cls: LockClass, depth: int) -> list[str]:
    """print_lock_class_header(): a class with all that is known of its use."""
    pad = " " * depth
    lines = [f"{pad}-> {cls.text} {{"]
    for bit, trace in sorted(cls.usage_traces.items()):
        head = f"{pad}   {USAGE_NAMES[bit]} at:"
        lines += [head, *_entries(trace, depth + len(head) + 1)]
    return [*lines, f"{pad} }}", f"{pad} ... key      at: {ip_sym(cls.key, s.symbol)}"]


def _acquired(trace: Sequence[str], depth: int) -> list[str]:
    return [f"{' ' * depth} ... acquired at:", *_entries(trace, 3), ""]


def _dependencies(s: Scene, path: Sequence[Node]) -> list[str]:
    """print_shortest_lock_dependencies(): the far end first; the root was acquired where the task is."""
    lines: list[str] = []
    for depth in range(len(path) - 1, -1, -1):
        edge = path[depth].edge
        lines += _class_header(s, path[depth].cls, depth)
        lines += _acquired(edge.trace if edge is not None else s.stack, depth)
    return lines


def _dependencies_backwards(s: Scene, path: Sequence[Node]) -> list[str]:
    """print_shortest_lock_dependencies_backwards(): an edge of a search backwards tells where its origin, which comes
    after it here, was acquired."""
    lines: list[str] = []
    for depth in range(len(path) - 1, -1, -1):
        lines += _class_header(s, path[depth].cls, depth)
        behind = path[depth + 1].edge if depth + 1 < len(path) else None
        if behind is not None:
            lines += _acquired(behind.trace, depth)
    return lines


# -- giving up -------------------------------------------------------------------------------------------------------


def imbalance(s: Scene, p: Imbalance) -> list[str]:
    """print_unlock_imbalance_bug()."""
    return [
        *s.banner("WARNING: bad unlock balance detected!"),
        f"{s.who} is trying to release lock ({p.lock.name}) at:", ip_sym(p.ip, s.symbol),
        "but there are no more locks to release!", "", "other info that might help us debug this:",
        *s.held_locks(), "", "stack backtrace:",
    ]  # fmt: skip


def freed(s: Scene, p: Freed) -> list[str]:
    """print_freed_lock_bug()."""
    return [
        *s.banner("WARNING: held lock freed!"),
        f"{s.who} is freeing memory {p.start:016x}-{p.end - 1:016x}, with a lock still held there!", s.line(p.lock),
        *s.held_locks(), "", "stack backtrace:",
    ]  # fmt: skip


def still_held(s: Scene) -> list[str]:
    """print_held_locks_bug()."""
    return [
        "", "=" * 36, f"WARNING: {s.who} still has locks held!", ident(s.system), "-" * 36, *s.held_locks(), "",
        "stack backtrace:",
    ]  # fmt: skip


def suspicious_rcu(s: Scene, where: str, what: str, debug_locks: bool) -> list[str]:
    """lockdep_rcu_suspicious(). Every CPU is online here, watched by RCU, and the scheduler runs."""
    doubt = [] if debug_locks else ["Possible false positive due to lockdep disabling via debug_locks = 0"]
    return [
        *s.banner("WARNING: suspicious RCU usage"), f"{where} {what}!", "",
        "other info that might help us debug this:", "", "", f"rcu_scheduler_active = 2, debug_locks = {debug_locks:d}",
        *doubt, *s.held_locks(), "", "stack backtrace:",
    ]  # fmt: skip


def leaving_kernel(s: Scene) -> list[str]:
    """lockdep_sys_exit()."""
    return [*s.banner("WARNING: lock held when returning to user space!"),
            f"{s.who} is leaving the kernel with locks still held!", *s.held_locks()]  # fmt: skip


TEXTS: dict[type, Callable[[Scene, Any], list[str]]] = {
    Deadlock: deadlock, Circular: circular, WaitContext: wait_context, NestNotHeld: nest_not_held, Usage: usage,
    Inversion: inversion, BadDependency: bad_dependency, Imbalance: imbalance, Freed: freed,
}  # fmt: skip


def report(scene: Scene, problem: Problem) -> list[str]:
    """The text of a problem, up to `stack backtrace:`."""
    return TEXTS[type(problem)](scene, problem)
