"""khungtaskd: tasks that sleep unkillably for too long.

Mirrors kernel/hung_task.c (6.18, CONFIG_DETECT_HUNG_TASK_BLOCKER) on virtual time. Leaves out: panicking, backtraces of
all CPUs, the coredump line, owners of semaphores (only mutexes and rw_semaphores name one here).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kernel_model.locking.waitfor import (
    BLOCKER_TYPE_MASK,
    BLOCKER_TYPE_MUTEX,
    BLOCKER_TYPE_RWSEM_READER,
    BLOCKER_TYPE_SEM,
)
from kernel_model.oops.common import System
from kernel_model.sched.debug import TASK_NOLOAD, StackDumper, sched_show_task
from kernel_model.sched.task import TASK_UNINTERRUPTIBLE, TASK_WAKEKILL, Task
from kernel_model.types import Types

DEFAULT_TIMEOUT = 120  # seconds: sysctl kernel.hung_task_timeout_secs
_FLAGS_MASK = 7  # low bits of an owner word
_RWSEM_READER_OWNED = 1


@dataclass(slots=True)
class HungTasks:
    """One kernel's detector. `warnings` counts down as kernel.hung_task_warnings does."""

    system: System
    types: Types
    dumper: StackDumper
    ppid: Callable[[Task], int]
    timeout: int = DEFAULT_TIMEOUT
    warnings: int = 10
    _last: dict[int, tuple[int, int]] = field(default_factory=dict)  # task address -> (switches, time they changed)

    def why_not(self, task: Task) -> str | None:
        """The rule by which the detector leaves a sleeping task alone, None where it does not."""
        state = task.state
        if not state & TASK_UNINTERRUPTIBLE:
            return "its sleep is interruptible"
        if state & TASK_WAKEKILL:
            return "its sleep is killable (TASK_WAKEKILL)"
        return "its sleep is no load (TASK_NOLOAD)" if state & TASK_NOLOAD else None

    def check(self, tasks: Iterable[Task], now: int) -> list[str]:
        """check_hung_uninterruptible_tasks() at virtual time `now` (ns); the lines it prints."""
        tasks, lines = sorted(tasks, key=lambda t: t.pid), []
        for task in tasks:
            if not task.blocked or self.why_not(task) is not None:
                self._last.pop(task.address, None)
                continue
            switches, since = self._last.setdefault(task.address, (int(task.view.nvcsw), now))
            if switches != task.view.nvcsw:
                self._last[task.address] = (int(task.view.nvcsw), now)
            elif now - since >= self.timeout * 1_000_000_000 and self.warnings:
                lines += self._report(task, (now - since) // 1_000_000_000, tasks)
        return lines

    def _report(self, task: Task, seconds: int, tasks: list[Task]) -> list[str]:
        self.warnings -= 1
        profile = self.system.profile
        lines = [
            f"INFO: task {task.comm}:{task.pid} blocked for more than {seconds} seconds.",
            f"      {self.system.taint} {profile.release} {profile.version}",
            '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
            *self._show(task), *self._blocker(task, tasks),
        ]
        if not self.warnings:
            lines.append("Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings")
        return lines

    def _show(self, task: Task) -> list[str]:
        return sched_show_task(task, self.ppid(task), self.dumper)

    def _blocker(self, task: Task, tasks: list[Task]) -> list[str]:
        """debug_show_blocker()."""
        blocker = int(task.view.blocker)
        kind, address = blocker & BLOCKER_TYPE_MASK, blocker & ~BLOCKER_TYPE_MASK
        if not blocker or kind == BLOCKER_TYPE_SEM:
            return []
        me, mutex = f"{task.comm}:{task.pid}", kind == BLOCKER_TYPE_MUTEX
        word = self.types.view("mutex" if mutex else "rw_semaphore", address).owner.counter & (1 << 64) - 1
        owner = next((t for t in tasks if t.address == word & ~_FLAGS_MASK), None)
        what = "a mutex" if mutex else "an rw-semaphore"
        if owner is None:
            how = "is blocked" if mutex else f"<{'reader' if kind == BLOCKER_TYPE_RWSEM_READER else 'writer'}> blocked"
            return [f"INFO: task {me} {how} on {what}, but the owner is not found."]
        other = f"{owner.comm}:{owner.pid}"
        if mutex:
            lines = [f"INFO: task {me} is blocked on a mutex likely owned by task {other}."]
        else:
            mine = "reader" if kind == BLOCKER_TYPE_RWSEM_READER else "writer"
            theirs = "reader" if word & _RWSEM_READER_OWNED else "writer"
            lines = [f"INFO: task {me} <{mine}> blocked on an rw-semaphore likely owned by task {other} <{theirs}>"]
        return lines if self.why_not(owner) is None and owner.blocked else [*lines, *self._show(owner)]
