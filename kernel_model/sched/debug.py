"""What a person asks of tasks that sleep: who they are, and where.

Mirrors kernel/sched/core.c (sched_show_task, show_state_filter). Leaves out stack usage (CONFIG_DEBUG_STACK_USAGE), the
work a kworker is about, and run queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from kernel_model.sched.task import TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE, Task

TASK_NOLOAD = 0x400


class StackDumper(Protocol):
    """The architecture's show_stack()."""

    def thread_flags(self, task: Task) -> int:
        """thread_info.flags of a task that is off its CPU, by the architecture's bits."""
        ...

    def task_trace(self, task: Task, frame_pointer: int, *, asleep: bool = False) -> list[str]:
        """`Call Trace:` and what follows it, from a frame record on the task's stack."""
        ...


def task_state_letter(task: Task) -> str:
    """task_state_to_char(): I for an uninterruptible sleep that is no load, D for any other, S, R."""
    state = task.state
    if state & TASK_UNINTERRUPTIBLE:
        return "I" if state & TASK_NOLOAD else "D"
    return "S" if state & TASK_INTERRUPTIBLE else "R"


def sched_show_task(task: Task, parent: int, dumper: StackDumper) -> list[str]:
    """The `task:` line and the trace of a task that is off its CPU. `parent` is its ppid."""
    head = (
        f"task:{task.comm:<15.15} state:{task_state_letter(task)} stack:{0:<5} pid:{task.pid:<5} tgid:{task.tgid:<5} "
        f"ppid:{parent:<6} task_flags:0x{task.view.flags:04x} flags:0x{dumper.thread_flags(task):08x}"
    )
    return [head, *(dumper.task_trace(task, task.frames[-1].frame_pointer, asleep=True) if task.frames else [])]


def show_blocked_state(tasks: Iterable[Task], ppid: Callable[[Task], int], dumper: StackDumper) -> list[str]:
    """sysrq-w, by pid."""
    return ["sysrq: Show Blocked State", *show_state_filter(tasks, ppid, dumper)]


def show_state_filter(tasks: Iterable[Task], ppid: Callable[[Task], int], dumper: StackDumper) -> list[str]:
    """show_state_filter(TASK_UNINTERRUPTIBLE), by pid."""
    lines: list[str] = []
    for task in sorted(tasks, key=lambda t: t.pid):
        if task.blocked and task.state & TASK_UNINTERRUPTIBLE and not task.state & TASK_NOLOAD:
            lines += sched_show_task(task, ppid(task), dumper)
    return lines
