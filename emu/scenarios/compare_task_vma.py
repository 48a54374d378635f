"""`kemu compare task-vma`: the designs of the task_vma iterator over the same few hundred schedules.

Every design runs the program that its verifier accepts: the one that faults inside the loop, or, for the series that
forbids that, the one that releases the iterator's lock first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emu.explore.oracles import STRATEGIES
from emu.explore.search import Tally, explore, minimise
from emu.scenarios.task_vma import NAME, Experiment, ScheduleRun
from kernel_model.bpf.verifier.errors import VerifierRejected
from kernel_model.sched.oracle import Oracle

# (design, profile, whether the program releases first)
DESIGNS = (
    ("mmap_lock held", "v7.0", False),
    ("KF_FORBID_FAULT v5", "series:kf-forbid-fault-v5", False),
    ("v5, released first", "series:kf-forbid-fault-v5", True),
    ("per-VMA snapshot", "v7.1", False),
)
NAMED = ("default", "queued", "no-writer", "spinning")
_BAD = ("deadlock", "stuck", "failed")


@dataclass(frozen=True, slots=True)
class Row:
    """One outcome of one design. `token` replays its simplest schedule; counts are of schedules."""

    design: str
    profile: str
    outcome: str
    count: int
    runs: int
    reason: str
    token: str


def oracles(experiment: Experiment, schedules: int, seed: int) -> Iterator[Oracle]:
    """The named schedules, then random walks of each strategy in turn, `schedules` in all."""
    for name in NAMED[:schedules]:
        yield experiment.oracle(name, seed)
    strategies = list(STRATEGIES.values())
    for number in range(schedules - len(NAMED)):
        yield strategies[number % len(strategies)](seed + number // len(strategies))


def compare(arch: str, schedules: int, seed: int, engine: str = "jit") -> list[Row]:
    """Rows for each design, in the order of DESIGNS, the most frequent outcome first."""
    rows = []
    for design, profile, release in DESIGNS:
        try:
            experiment = Experiment(arch, profile, engine, release=release)
        except VerifierRejected as error:
            last = error.log.strip().splitlines()
            text = next((line for line in reversed(last) if not line.startswith("processed")), str(error))
            rows.append(Row(design, profile, "rejected", 0, 0, text, ""))
            continue
        rows += _rows(design, profile, experiment, explore(experiment, oracles(experiment, schedules, seed)))
    return rows


def _rows(design: str, profile: str, experiment: Experiment, tally: Tally) -> list[Row]:
    out = []
    for outcome, count in sorted(tally.counts.items(), key=lambda item: (-item[1], item[0])):
        run = tally.simplest[outcome]
        if outcome in _BAD:
            run = minimise(experiment, run)
        assert isinstance(run, ScheduleRun)
        token = str(run.token) if outcome in _BAD else ""
        out.append(Row(design, profile, outcome, count, tally.runs, run.reason, token))
    return out


def headers() -> tuple[str, ...]:
    """Column heads of the table."""
    return ("DESIGN", "KERNEL", "OUTCOME", "SCHEDULES", "WHY", f"REPLAY (kemu run {NAME} --schedule)")


def cells(row: Row) -> tuple[str, ...]:
    """A row as the table shows it."""
    share = f"{row.count} of {row.runs}" if row.runs else "-"
    return row.design, row.profile, row.outcome, share, row.reason, row.token or "-"
