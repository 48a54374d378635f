"""The scheduler of a machine whose tasks run one after the other: whoever must wait waits for ever.

Mirrors kernel/sched/core.c by function name. It stands in until tasks can sleep: nobody else runs, so a lock is always
free, and a task that finds one held has run into a lock of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall


def _asleep(function: str) -> NotModelledError:
    return NotModelledError(f"{function}: the task would wait, and nothing else runs that could end that")


class AloneKcalls:
    """kcalls. `clock` gives virtual nanoseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    @kcall
    def schedule(self) -> None:
        """void schedule(void)"""
        raise _asleep("schedule")

    @kcall
    def schedule_preempt_disabled(self) -> None:
        """void schedule_preempt_disabled(void)"""
        raise _asleep("schedule_preempt_disabled")

    @kcall
    def schedule_timeout_wait(self, ns: int) -> int:
        """u64 schedule_timeout_wait(u64 ns)"""
        raise _asleep("schedule_timeout")

    @kcall
    def cpu_relax(self) -> None:
        """void cpu_relax(void)"""
        raise _asleep("cpu_relax")

    @kcall
    def wake_up_process(self, p: int) -> int:
        """int wake_up_process(struct task_struct *p): nobody sleeps."""
        return 0

    @kcall
    def sched_point(self) -> None:
        """A decision point without a decision."""

    @kcall
    def sched_clock(self) -> int:
        """u64 sched_clock(void)"""
        return self._clock()
