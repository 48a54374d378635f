"""What a scenario reports: rows of what was tried and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """How one step ended."""

    OK = "ok"
    RECOVERED = "recovered"
    FIXUP = "exception table"
    REFUSED = "refused"
    SIGNAL = "signal"
    OOPS = "oops"
    REJECTED = "rejected"
    DEADLOCK = "deadlock"
    FAILED = "FAILED"


_OBJECTIONS = (Outcome.OOPS, Outcome.REJECTED, Outcome.DEADLOCK, Outcome.FAILED)


@dataclass(frozen=True, slots=True)
class Row:
    """One step: program, what it does, outcome, details, and the kernel's own texts."""

    step: str
    what: str
    outcome: Outcome
    detail: str
    stream: str
    dmesg: str


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """All steps of one run."""

    name: str
    arch: str
    profile: str
    rows: list[Row]
    token: str = ""  # replays the schedule, where the scenario has one
    report: list[str] = field(default_factory=list)  # lines to read after the rows

    @property
    def ok(self) -> bool:
        """The kernel had no objection and nothing broke a promise."""
        return all(row.outcome not in _OBJECTIONS for row in self.rows)
