"""Many schedules of one experiment, and the simplest one that still shows the same.

Mirrors no Linux file. "Simpler" is an order, as in Hypothesis's shrinker: first fewer decisions that deviate from
run-until-block, then a shorter run, then smaller choices, earlier ones first. `minimise` never returns something less
simple than what it was given, and what it returns was run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from emu.explore.oracles import Replay
from kernel_model.sched.oracle import Oracle


class Run(Protocol):
    """What an experiment says of one schedule."""

    @property
    def outcome(self) -> str:
        """One word: "completes", "deadlock", ..."""
        ...

    @property
    def reason(self) -> str:
        """Why, in a few words."""
        ...

    @property
    def decisions(self) -> int:
        """How many decisions were made."""
        ...

    @property
    def deviations(self) -> tuple[tuple[int, int], ...]:
        """Those that left run-until-block."""
        ...


Experiment = Callable[[Oracle], Run]


@dataclass(slots=True)
class Tally:
    """Outcomes of many schedules: how often each came, and the simplest schedule that was seen to give it."""

    counts: dict[str, int] = field(default_factory=dict)
    simplest: dict[str, Run] = field(default_factory=dict)
    runs: int = 0
    schedules: set[tuple[tuple[int, int], ...]] = field(default_factory=set)  # distinct ones

    def add(self, run: Run) -> None:
        """Count one run."""
        self.runs += 1
        self.schedules.add(run.deviations)
        self.counts[run.outcome] = self.counts.get(run.outcome, 0) + 1
        best = self.simplest.get(run.outcome)
        if best is None or order(run) < order(best):
            self.simplest[run.outcome] = run


def order(run: Run) -> tuple[int, int, Sequence[tuple[int, int]]]:
    """The order of "simpler": see the module's docstring."""
    return len(run.deviations), run.decisions, run.deviations


def explore(experiment: Experiment, oracles: Iterable[Oracle]) -> Tally:
    """Run the experiment once with each oracle."""
    tally = Tally()
    for oracle in oracles:
        tally.add(experiment(oracle))
    return tally


def minimise(experiment: Experiment, failing: Run, max_runs: int = 400) -> Run:
    """The simplest schedule found that has the outcome of `failing`, by leaving out deviations."""
    best, left = failing, max_runs

    def attempt(deviations: Mapping[int, int]) -> bool:
        nonlocal best, left
        left -= 1
        run = experiment(Replay(deviations, strict=False))
        if run.outcome == failing.outcome and order(run) < order(best):
            best = run
            return True
        return False

    size = max(len(best.deviations) // 2, 1)
    while left > 0:
        start, progress = 0, False
        while start < len(best.deviations) and left > 0:
            kept = best.deviations[:start] + best.deviations[start + size :]
            if attempt(dict(kept)):
                progress = True
            else:
                start += size
        if not progress and size == 1:
            break
        size = size if progress else max(size // 2, 1)
    return best
