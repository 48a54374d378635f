"""Strategies: oracles that explore, replay or steer.

Mirrors no Linux file. An oracle is asked only where there are at least two ways to go on
(kernel_model/sched/oracle.py); everything else about a run is determined.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kernel_model.errors import KemuError
from kernel_model.sched.oracle import Oracle, keep_going
from kernel_model.sched.task import Task


class RandomWalk:
    """Any option with the same probability at each decision, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """A roll of the dice."""
        return self._random.randrange(len(options))


class Sticky:
    """A random walk that changes tasks rarely: with probability 1/`period`, else it runs until block.

    Deadlocks of few tasks need few changes of task at the right places; a uniform walk seldom leaves a task alone
    long enough to reach its second lock.
    """

    def __init__(self, seed: int, period: int = 8) -> None:
        self._random = random.Random(seed)
        self._period = period

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """The default, or sometimes any other option."""
        default = keep_going(options, current)
        if self._random.randrange(self._period):
            return default
        return self._random.randrange(len(options))


class Priorities:
    """PCT: each task has a random priority, the highest that can run does; at `depth` - 1 random decisions the task
    that would run falls below all others.

    Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (ASPLOS 2010): a bug that
    needs `depth` ordered events among n tasks is found with a probability of at least 1/(n * steps^(depth - 1)).
    """

    def __init__(self, seed: int, depth: int = 3, steps: int = 40) -> None:
        self._random = random.Random(seed)
        self._priorities: dict[int, float] = {}
        self._changes = {self._random.randrange(steps): -float(i) for i in range(1, depth)}
        self._number = 0

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """The option of the highest priority; new tasks draw theirs when they are first seen."""
        for task in options:
            if task.pid not in self._priorities:
                self._priorities[task.pid] = 1 + self._random.random()
        best = max(options, key=lambda t: self._priorities[t.pid])
        lowered = self._changes.get(self._number)
        self._number += 1
        if lowered is not None:
            self._priorities[best.pid] = lowered
            best = max(options, key=lambda t: self._priorities[t.pid])
        return list(options).index(best)


class DoesNotFitError(KemuError):
    """A recorded schedule that the run does not follow."""


class Replay:
    """Run until block, but for the recorded deviations: number of the decision -> index of the option."""

    def __init__(self, deviations: Mapping[int, int], *, strict: bool = True) -> None:
        self._deviations = deviations
        self._strict = strict
        self._number = 0

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """What was recorded. DoesNotFitError where there is no such option, the default where not `strict`."""
        number, self._number = self._number, self._number + 1
        chosen = self._deviations.get(number)
        if chosen is None:
            return keep_going(options, current)
        if chosen < len(options):
            return chosen
        if self._strict:
            raise DoesNotFitError(f"the schedule does not fit: decision {number} has {len(options)} options, "
                                  f"it asks for number {chosen}")
        return keep_going(options, current)


@dataclass(frozen=True, slots=True)
class Stage:
    """Let the task that `who` tells run wherever it can until `until()`; then the next stage begins."""

    who: Callable[[Task], bool]
    until: Callable[[], bool]


class Steer:
    """Follows stages; where the stage's task cannot run, or no stage is left, it runs until block."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = list(stages)

    def choose(self, options: Sequence[Task], current: Task | None, kind: str) -> int:
        """The task of the current stage."""
        while self._stages and self._stages[0].until():
            self._stages.pop(0)
        if self._stages:
            for i, task in enumerate(options):
                if self._stages[0].who(task):
                    return i
        return keep_going(options, current)


STRATEGIES: dict[str, Callable[[int], Oracle]] = {"random": RandomWalk, "sticky": Sticky, "pct": Priorities}
