"""RCU: read sections, grace periods, callbacks.

Mirrors kernel/rcu/tree.c and tree_plugin.h (CONFIG_PREEMPT_RCU) in what they guarantee: a grace period ends when every
task that was in a read section at its start has left it. Sections that begin later do not matter, so a grace period
here is the set of tasks it still waits for. Leaves out: quiescent states of CPUs (a section is only what lies between
rcu_read_lock() and rcu_read_unlock(), not every stretch with preemption disabled), the delay of a real grace period,
expedited ones, SRCU, RCU Tasks Trace, stall warnings, boosting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kernel_model.errors import KemuError
from kernel_model.kcall import kcall
from kernel_model.sched.requests import Block, GuestCall, Sleeping

_TASK_RUNNING, _TASK_UNINTERRUPTIBLE = 0, 2


@dataclass(slots=True, eq=False)
class GracePeriod:
    """`readers`: addresses of the tasks it waits for; `done` is run by whoever ends it, once none is left."""

    readers: set[int]
    done: Callable[[], Sleeping] = field(repr=False)
    over: bool = False


class Rcu:
    """Grace periods of one kernel.

    `tasks` gives the views of all task_structs (a task that has ended is in no section), `current` that of the task
    that makes the call.
    """

    def __init__(self, tasks: Callable[[], Iterable[Any]], current: Callable[[], Any]) -> None:
        self._tasks = tasks
        self._current = current
        self.pending: list[GracePeriod] = []  # oldest first; a younger one never ends before an older one

    def start(self, done: Callable[[], Sleeping]) -> GracePeriod:
        """Begin a grace period that waits for the sections of this moment; with none of them, and no older grace
        period under way, it is ready: `poll()` ends it."""
        period = GracePeriod({t.address for t in self._tasks() if t.rcu_read_lock_nesting > 0}, done)
        for task in self._tasks():
            if task.address in period.readers:
                task.rcu_read_unlock_special = 1
        self.pending.append(period)
        return period

    def poll(self) -> Sleeping:
        """End the grace periods that wait for nobody, in order."""
        while self.pending and not self.pending[0].readers:
            period = self.pending.pop(0)
            period.over = True
            yield from period.done()

    def left(self, task: int) -> Sleeping:
        """The task at address `task` has left its outermost section, or ended."""
        for period in self.pending:
            period.readers.discard(task)
        yield from self.poll()

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def rcu_read_unlock_special(self, t: int) -> Sleeping:
        """void rcu_read_unlock_special(struct task_struct *t): its outermost section is over and was waited for."""
        self._current().rcu_read_unlock_special = 0
        yield from self.left(t)

    @kcall
    def call_rcu(self, head: int, func: int) -> Sleeping:
        """void call_rcu(struct rcu_head *head, rcu_callback_t func): `func(head)` after a grace period, run by the
        task that ends it (in Linux by a softirq or a kernel thread)."""

        def callback() -> Sleeping:
            yield GuestCall(func, head)

        self.start(callback)
        yield from self.poll()

    @kcall
    def synchronize_rcu(self) -> Sleeping:
        """void synchronize_rcu(void): sleeps, uninterruptibly, for a grace period. KemuError inside a read section,
        where Linux would wait for itself."""
        task = self._current()
        if task.rcu_read_lock_nesting:
            raise KemuError(f"synchronize_rcu() inside a read section of {task.comm}/{task.pid}")

        def wake() -> Sleeping:
            yield GuestCall("wake_up_process", task.address)

        period = self.start(wake)
        if self.pending == [period] and not period.readers:
            self.pending.clear()
            period.over = True
        while not period.over:
            task.__setattr__("__state", _TASK_UNINTERRUPTIBLE)
            yield Block()
        task.__setattr__("__state", _TASK_RUNNING)
