"""khungtaskd: tasks that sleep unkillably for too long.

Mirrors kernel/hung_task.c (6.18, CONFIG_DETECT_HUNG_TASK_BLOCKER) on virtual time. Leaves out: panicking, backtraces of
all CPUs, the coredump line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kernel_model.locking.waitfor import (
    BLOCKER_TYPE_MASK,
    BLOCKER_TYPE_MUTEX,
    BLOCKER_TYPE_RWSEM_READER,
    BLOCKER_TYPE_RWSEM_WRITER,
    BLOCKER_TYPE_SEM,
)
from kernel_model.oops.common import System
from kernel_model.sched.debug import TASK_NOLOAD, StackDumper, sched_show_task
from kernel_model.sched.task import TASK_UNINTERRUPTIBLE, TASK_WAKEKILL, Task
from kernel_model.types import Types

DEFAULT_TIMEOUT = 120  # seconds: sysctl kernel.hung_task_timeout_secs
_FLAGS_MASK = 7  # low bits of an owner word
_RWSEM_READER_OWNED = 1  # in the owner word
_RWSEM_WRITER_LOCKED = 1  # in the count
TASK_FROZEN = 0x8000
_NOBODY = {
    BLOCKER_TYPE_MUTEX: "a mutex, but the owner", BLOCKER_TYPE_SEM: "a semaphore, but the last holder",
    BLOCKER_TYPE_RWSEM_READER: "an rw-semaphore, but the owner",
    BLOCKER_TYPE_RWSEM_WRITER: "an rw-semaphore, but the owner",
}  # fmt: skip


@dataclass(slots=True)
class HungTasks:
    """One kernel's detector. `warnings` counts down as kernel.hung_task_warnings does."""

    system: System
    types: Types
    dumper: StackDumper
    ppid: Callable[[Task], int]
    timeout: int = DEFAULT_TIMEOUT
    warnings: int = 10
    last_checked: int = 0  # virtual ns
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)  # task address -> (switches, time they changed)

    def why_not(self, task: Task) -> str | None:
        """The rule by which the detector leaves a sleeping task alone, None where it does not."""
        state = task.state
        if not state & TASK_UNINTERRUPTIBLE:
            return "its sleep is interruptible"
        if state & TASK_WAKEKILL:
            return "its sleep is killable (TASK_WAKEKILL)"
        if state & TASK_NOLOAD:
            return "its sleep is no load (TASK_NOLOAD)"
        return "it is frozen (TASK_FROZEN)" if state & TASK_FROZEN else None

    def check(self, tasks: Iterable[Task], now: int) -> list[str]:
        """check_hung_uninterruptible_tasks() at virtual time `now` (ns); the lines it prints. None after an oops."""
        tasks, lines = sorted(tasks, key=lambda t: t.pid), list[str]()
        if "D" in self.system.taint.letters:
            return lines
        for task in tasks:
            if self._is_hung(task, now) and self.warnings:
                lines += self._report(task, (now - self._last[task.address][1]) // 1_000_000_000, tasks, now)
        return lines

    def _is_hung(self, task: Task, now: int) -> bool:
        """task_is_hung(): it has not been switched since it was looked at `timeout` seconds ago or earlier."""
        if not task.blocked or self.why_not(task) is not None:
            return False
        switches, since = self._last.setdefault(task.address, (int(task.view.nvcsw), now))
        if switches != task.view.nvcsw:
            self._last[task.address] = (int(task.view.nvcsw), now)
            return False
        return now - since >= self.timeout * 1_000_000_000

    def _report(self, task: Task, seconds: int, tasks: list[Task], now: int) -> list[str]:
        self.warnings -= 1
        profile = self.system.profile
        lines = [
            f"INFO: task {task.comm}:{task.pid} blocked for more than {seconds} seconds.",
            f"      {self.system.taint} {profile.release} {profile.version}",
            '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
            *self._show(task), *self._blocker(task, tasks, now),
        ]
        if not self.warnings:
            lines.append("Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings")
        return lines

    def _show(self, task: Task) -> list[str]:
        return sched_show_task(task, self.ppid(task), self.dumper)

    def _blocker(self, task: Task, tasks: list[Task], now: int) -> list[str]:
        """debug_show_blocker(): who is likely to hold what the task waits for, and where he is unless he hangs too."""
        blocker = int(task.view.blocker)
        if not blocker:
            return []
        kind, address = blocker & BLOCKER_TYPE_MASK, blocker & ~BLOCKER_TYPE_MASK
        word = self._owner(kind, address)
        owner = next((t for t in tasks if t.address == word & ~_FLAGS_MASK), None)
        me = f"INFO: task {task.comm}:{task.pid}"
        if owner is None:
            return [f"{me} is blocked on {_NOBODY[kind]} is not found."] if not word & ~_FLAGS_MASK else []
        other = f"{owner.comm}:{owner.pid}"
        if kind == BLOCKER_TYPE_MUTEX:
            line = f"{me} is blocked on a mutex likely owned by task {other}."
        elif kind == BLOCKER_TYPE_SEM:
            line = f"{me} blocked on a semaphore likely last held by task {other}"
        else:
            mine = "reader" if kind == BLOCKER_TYPE_RWSEM_READER else "writer"
            theirs = "reader" if self._reader_owned(address, word) else "writer"
            line = f"{me} <{mine}> blocked on an rw-semaphore likely owned by task {other} <{theirs}>"
        return [line] if self._is_hung(owner, now) else [line, *self._show(owner)]

    def _reader_owned(self, address: int, word: int) -> bool:
        """is_rwsem_reader_owned(): a writer that has just taken the lock may not have changed the owner word yet."""
        count = int(self.types.view("rw_semaphore", address).count.counter)
        return not count & _RWSEM_WRITER_LOCKED and bool(word & _RWSEM_READER_OWNED)

    def _owner(self, kind: int, address: int) -> int:
        """The lock's word that names a task."""
        if kind == BLOCKER_TYPE_SEM:
            return int(self.types.view("semaphore", address).last_holder)
        lock = self.types.view("mutex" if kind == BLOCKER_TYPE_MUTEX else "rw_semaphore", address)
        return int(lock.owner.counter) & (1 << 64) - 1
