"""What becomes of a process that has ended, and who waits for it.

Mirrors kernel/exit.c: exit_notify, forget_original_parent, release_task and __do_wait; the waiting itself is guest text
(images/kernel/kernel/exit.c). Orphans belong to init, which is no task here and reaps them at once. Leaves out: process
groups, stopped children, resource usage, subreapers.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace
from kernel_model.sched.core import Scheduler
from kernel_model.sched.signal import Signals
from kernel_model.sched.task import TASK_INTERRUPTIBLE, TIF_SIGPENDING, Task, Tasks

_ECHILD, _ERESTARTSYS = 10, 512
_SIGCHLD = 17
WNOHANG, WNOTHREAD, WALL, WCLONE = 0x1, 0x20000000, 0x40000000, 0x80000000


class Exit:
    """kcalls of wait4(2), and what happens to forked processes when they end.

    `exit_mm` gives back the memory of a process none of whose threads will run again, `release` the rest of it.
    """

    def __init__(
        self, tasks: Tasks, sched: Scheduler, current: Callable[[], Task], space: KernelSpace,
        exit_mm: Callable[[Task], None], release: Callable[[Task], None], signals: Signals,
    ) -> None:
        self._tasks = tasks
        self._sched = sched
        self._current = current
        self._space = space
        self._exit_mm = exit_mm
        self._release = release
        self._signals = signals
        self._waiting: list[Task] = []  # in do_wait()
        sched.on_exit.append(self.exit_notify)

    def _parent(self, task: Task) -> Task | None:
        return self._tasks.by_address.get(int(task.view.real_parent))

    def _children(self, of: Task, *, own: bool) -> list[Task]:
        """Leaders of the processes that are children of `of` (`own`) or of any thread of its process, by pid."""
        found = []
        for task in self._tasks.by_address.values():
            parent = self._parent(task)
            if parent is not None and task.pid == task.tgid and (parent is of if own else parent.tgid == of.tgid):
                found.append(task)
        return sorted(found, key=lambda t: t.pid)

    def _dead(self, task: Task) -> bool:
        return all(t.exit is not None for t in self._tasks.group(task))

    def exit_notify(self, task: Task) -> None:
        """A thread has ended: its children get another parent; with the last thread the process is a zombie."""
        if task in self._waiting:
            self._waiting.remove(task)
        self._forget_original_parent(task)
        if not self._dead(task):
            return
        parent = self._parent(task)
        if task.origin:
            self._exit_mm(task)
            if parent is None:
                self._reap(task)
        if parent is None:
            return
        ended = self._sched.group_exit.get(task.tgid) or task.exit
        leader = self._tasks.by_address[int(task.view.group_leader)]
        assert ended is not None
        if self._signals.notify_parent(leader, parent, ended):
            self._reap(task)
        for waiter in [t for t in self._waiting if t.tgid == parent.tgid]:
            self._waiting.remove(waiter)
            self._sched.wake(waiter, TASK_INTERRUPTIBLE)

    def _forget_original_parent(self, task: Task) -> None:
        heir = next((t for t in self._tasks.group(task) if t.exit is None), None)
        for child in self._children(task, own=True):
            for thread in self._tasks.group(child):
                thread.view.real_parent = heir.address if heir is not None else 0
            if heir is None and child.origin and self._dead(child):
                self._reap(child)

    def _reap(self, task: Task) -> int:
        """release_task(): the wait status of a zombie, which is gone then."""
        ended = self._sched.group_exit.pop(task.tgid, None) or task.exit
        assert ended is not None
        self._release(task)
        return ended.code

    @kcall
    def __do_wait(self, pid: int, options: int, stat: int) -> int:
        if pid == 0 or pid < -1:
            raise NotModelledError(f"wait4(2): pid {pid}: process groups are not modelled")
        task = self._current()
        if task in self._waiting:
            self._waiting.remove(task)
        eligible = [
            child for child in self._children(task, own=bool(options & WNOTHREAD))
            if pid in (-1, child.pid)
            and (options & WALL or (child.exit_signal != _SIGCHLD) == bool(options & WCLONE))
        ]
        if not eligible:
            return -_ECHILD
        for child in eligible:
            if self._dead(child):
                self._space.write_u32(stat, self._reap(child))
                return child.pid
        if options & WNOHANG:
            return 0
        if not task.view.thread_info_flags & TIF_SIGPENDING:  # it does not go to sleep then
            self._waiting.append(task)
        return -_ERESTARTSYS

    @kcall
    def getrusage_not_modelled(self) -> None:
        """void getrusage_not_modelled(void): wait4(2) was asked for what the child used."""
        raise NotModelledError("wait4(2): resource usage is not modelled")
