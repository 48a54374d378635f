"""Who waits for whom: the wait-for graph of blocked tasks, and a cycle in it.

Mirrors no Linux file; it reads what the kernel leaves in memory: task_struct.blocker (include/linux/hung_task.h), the
wait list of an rw_semaphore (kernel/locking/rwsem.c), the owner of a mutex, and the locks that lockdep knows as held.
A waiter waits for those who hold the lock in a way that excludes it, and for the waiters in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from kernel_model.mm.access import GuestAddressError, KernelSpace
from kernel_model.sched.task import Task
from kernel_model.types import Types

BLOCKER_TYPE_MASK = 3
BLOCKER_TYPE_MUTEX, BLOCKER_TYPE_SEM, BLOCKER_TYPE_RWSEM_READER, BLOCKER_TYPE_RWSEM_WRITER = range(4)
_MODES = {BLOCKER_TYPE_RWSEM_READER: "for reading", BLOCKER_TYPE_RWSEM_WRITER: "for writing"}
_RWSEM_WAITING_FOR_READ = 1  # enum rwsem_waiter_type
_STRUCTS = {BLOCKER_TYPE_MUTEX: "mutex", BLOCKER_TYPE_SEM: "semaphore"}


class Holding(Protocol):
    """One lock that a task holds, as lockdep knows it."""

    @property
    def instance(self) -> int:
        """Address of its struct lockdep_map."""
        ...

    @property
    def read(self) -> int:
        """0 exclusive, 1 shared, 2 shared and recursive."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """The lock a task sleeps on. `address` is the lock's, `dep_map` that of its lockdep_map."""

    address: int
    dep_map: int
    name: str
    kind: int  # BLOCKER_TYPE_*

    @property
    def mode(self) -> str:
        """ "for reading", "for writing", or nothing for an exclusive lock."""
        return _MODES.get(self.kind, "")


@dataclass(frozen=True, slots=True)
class Edge:
    """`waiter` waits for `other`, because of how `other` stands to the lock."""

    waiter: Task
    other: Task
    lock: Wanted
    why: str  # "holds it for reading", "is queued in front of it for writing"


class WaitFor:
    """The graph at one moment; `held(task)` are the locks a task holds or is about to take, innermost last."""

    def __init__(
        self, tasks: Iterable[Task], held: Callable[[Task], Iterable[Holding]], types: Types, space: KernelSpace
    ) -> None:
        self.tasks = sorted(tasks, key=lambda t: t.pid)
        self._held = held
        self._types = types
        self._space = space

    def wanted(self, task: Task) -> Wanted | None:
        """The lock that a blocked task sleeps on, None where it sleeps on something else.

        Linux notes the lock only of those who wait unkillably; of the others the innermost lock that lockdep knows is
        the one, where its wait list has the task.
        """
        if not task.blocked:
            return None
        blocker = int(task.view.blocker)
        if blocker:
            kind, address = blocker & BLOCKER_TYPE_MASK, blocker & ~BLOCKER_TYPE_MASK
            return self._wanted(kind, address)
        held = list(self._held(task))
        if not held:
            return None
        address = held[-1].instance - self._types.offsetof("rw_semaphore", "dep_map")
        for waiter, kind in self._queue(address):
            if waiter is task:
                return self._wanted(kind, address)
        return None

    def _wanted(self, kind: int, address: int) -> Wanted:
        dep_map = address + self._types.offsetof(_STRUCTS.get(kind, "rw_semaphore"), "dep_map")
        name = self._space.read_u64(dep_map + self._types.offsetof("lockdep_map", "name"))
        return Wanted(address, dep_map, self._space.read_cstr(name).decode() if name else f"{address:016x}", kind)

    def holdings(self, task: Task) -> list[Holding]:
        """Locks that a task really holds: the one it waits for is already on lockdep's stack."""
        held = list(self._held(task))
        wanted = self.wanted(task)
        if wanted is not None and held and held[-1].instance == wanted.dep_map:
            held.pop()
        return held

    def edges(self, task: Task) -> list[Edge]:
        """Whom `task` waits for, holders first, then those in front of it in the queue."""
        lock = self.wanted(task)
        if lock is None:
            return []
        out = []
        reading = lock.kind == BLOCKER_TYPE_RWSEM_READER
        for other in self.tasks:
            for holding in self.holdings(other):
                if holding.instance == lock.dep_map and not (reading and holding.read):
                    how = " for reading" if holding.read else " for writing" if lock.mode else ""
                    out.append(Edge(task, other, lock, f"holds it{how}"))
        if lock.mode:
            for other, kind in self._queue(lock.address):
                if other is task:
                    break
                if not (reading and kind == BLOCKER_TYPE_RWSEM_READER):
                    out.append(Edge(task, other, lock, f"is queued in front of it {_MODES[kind]}"))
        return out

    def _queue(self, semaphore: int) -> list[tuple[Task, int]]:
        """The tasks in an rw_semaphore's wait list and how they want it, first one first; nothing where the address
        holds no such list."""
        by_address = {task.address: task for task in self.tasks}
        head = semaphore + self._types.offsetof("rw_semaphore", "wait_list")
        task_at, type_at = (self._types.offsetof("rwsem_waiter", name) for name in ("task", "type"))
        out: list[tuple[Task, int]] = []
        try:
            at = self._space.read_u64(head)
            while at not in (head, 0) and len(out) < len(self.tasks):
                task = by_address.get(self._space.read_u64(at + task_at))
                reads = self._space.read_u32(at + type_at) == _RWSEM_WAITING_FOR_READ
                if task is None:
                    break
                out.append((task, BLOCKER_TYPE_RWSEM_READER if reads else BLOCKER_TYPE_RWSEM_WRITER))
                at = self._space.read_u64(at)
        except GuestAddressError:
            return []
        return out

    def cycle(self) -> list[Edge]:
        """The edges of a cycle, beginning with a task that holds something others want; empty where there is none."""
        for start in sorted(self.tasks, key=lambda t: (not self.holdings(t), t.pid)):
            path = self._search(start, start, [])
            if path:
                return path
        return []

    def _search(self, start: Task, task: Task, path: list[Edge]) -> list[Edge]:
        for edge in self.edges(task):
            if edge.other is start:
                return [*path, edge]
            if all(step.waiter is not edge.other for step in path) and edge.other is not task:
                found = self._search(start, edge.other, [*path, edge])
                if found:
                    return found
        return []
