"""What each CPU did, as a person tells it: which kernel functions were entered, in what order, on which CPU.

Mirrors no Linux file. The functions that are worth telling are named by the scenario; hooks at their first instruction
note who came by. Printed as columns, one for each CPU, time running down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Event:
    """A task entered a function, or something happened to it."""

    cpu: int
    pid: int
    comm: str
    text: str


class Recorder:
    """Notes entries of `functions` (kernel symbols) while it is on. Make one for each kernel, before it runs."""

    def __init__(self, kernel: Kernel, functions: Iterable[str]) -> None:
        self._kernel = kernel
        self.events: list[Event] = []
        self.on = False
        for cpu in kernel.machine.cpus:
            for name in functions:
                cpu.engine.hook_address(kernel.machine.symbol(name), self._hook(name))
            cpu.flush_code()

    def _hook(self, name: str) -> Callable[[], None]:
        def entered() -> None:
            if self.on:
                self.note(name)

        return entered

    def note(self, text: str) -> None:
        """Add an event of the task that executes."""
        task = self._kernel.current_task()
        self.events.append(Event(self._kernel.machine.current_cpu, task.pid, task.comm, text))


def columns(events: Iterable[Event], nr_cpus: int, width: int = 38) -> list[str]:
    """Lines of a table with a column for each CPU; a task is named where it begins or continues on its CPU."""
    lines = ["".join(f"CPU{number}".ljust(width) for number in range(nr_cpus)).rstrip()]
    last: tuple[int, int] | None = None
    repeated = 0
    previous: Event | None = None
    for event in events:
        if event == previous:
            repeated += 1
            continue
        if repeated:
            lines[-1] += f" (x{repeated + 1})"
            repeated = 0
        previous = event
        indent = " " * (width * event.cpu)
        if (event.cpu, event.pid) != last:
            lines.append(f"{indent}{event.comm}/{event.pid}:")
            last = (event.cpu, event.pid)
        lines.append(f"{indent}  {event.text}")
    if repeated:
        lines[-1] += f" (x{repeated + 1})"
    return lines
