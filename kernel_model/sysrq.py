"""The dumps behind /proc/sysrq-trigger.

Mirrors drivers/tty/sysrq.c (action messages) and show_state_filter() for the keys d and w; what a key does otherwise is
guest text (images/kernel/drivers/tty/sysrq.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kernel_model.console import Console
from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.sched.debug import StackDumper, show_state_filter
from kernel_model.sched.task import Task

_ACTIONS = {"d": "Show Locks Held", "w": "Show Blocked State"}


class Sysrq:
    """kcalls of sysrq; `tasks` gives those that were started."""

    def __init__(
        self, console: Console, tasks: Callable[[], Iterable[Task]], ppid: Callable[[Task], int], dumper: StackDumper
    ) -> None:
        self._console = console
        self._tasks = tasks
        self._ppid = ppid
        self._dumper = dumper

    @kcall
    def sysrq_action(self, key: int) -> None:
        """The `sysrq: ...` line of a key; NotModelledError for keys other than d and w."""
        action = _ACTIONS.get(chr(key))
        if action is None:
            raise NotModelledError(f"sysrq key {chr(key)!r}: only {', '.join(_ACTIONS)} are modelled")
        self._console.print(f"sysrq: {action}")

    @kcall
    def show_state_filter(self, state_filter: int) -> None:
        """void show_state_filter(unsigned int state_filter)"""
        self._console.print(*show_state_filter(self._tasks(), self._ppid, self._dumper))
