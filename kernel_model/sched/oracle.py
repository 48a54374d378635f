"""Who goes next: the one place where a run of the machine could have gone another way.

Mirrors no Linux file; the idea is shuttle's: a scheduler is an oracle of one small method. Strategies for exploring are
oracles in emu/explore. Nothing else in kemu chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kernel_model.sched.task import Task


class Oracle(Protocol):
    """Chooses the next task at a decision point that has at least two ways to go on."""

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """Index of the task that goes next. `options` are in the order of their pids.

        `current` is the task that reached the point (None where a task has ended or blocked), `kind` what the point
        is: "block", "exit", "wake", "spin", "yield", "unlock", ...
        """
        ...


def keep_going(options: Sequence[Task], current: Task | None) -> int:
    """Run until block, round robin: `current` where it can go on, else the next one by pid."""
    if current is None:
        return 0
    for i, task in enumerate(options):
        if task.pid >= current.pid:
            return i
    return 0


class RunUntilBlock:
    """The default oracle."""

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """See `keep_going`."""
        return keep_going(options, current)


@dataclass(slots=True)  # not frozen: that costs as much as the rest of a decision
class Decision:
    """One choice that was made: out of `options` (pids) at a point of `kind`, `chosen` is an index."""

    kind: str
    options: tuple[int, ...]
    chosen: int
    default: int  # what run-until-block would have chosen
    current: int  # pid of the task that reached the point, -1 if none


@dataclass(slots=True)
class History:
    """Every decision of a run, in order."""

    decisions: list[Decision] = field(default_factory=list)

    def deviations(self) -> list[tuple[int, int]]:
        """(number of the decision, choice) wherever the run left the default."""
        return [(i, d.chosen) for i, d in enumerate(self.decisions) if d.chosen != d.default]
