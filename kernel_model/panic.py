"""Taint and the lines that identify a CPU and task in every report.

Mirrors kernel/panic.c (print_tainted, tainted_mask) and lib/dump_stack.c (dump_stack_print_info). Leaves out
kdump and build ids: both print nothing on the kernels that the golden texts come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# kernel/panic.c:taint_flags in bit order: letter when set, letter when clear, name in the second line
TAINT_FLAGS: tuple[tuple[str, str, str], ...] = (
    ("P", "G", "PROPRIETARY_MODULE"),
    ("F", " ", "FORCED_MODULE"),
    ("S", " ", "CPU_OUT_OF_SPEC"),
    ("R", " ", "FORCED_RMMOD"),
    ("M", " ", "MACHINE_CHECK"),
    ("B", " ", "BAD_PAGE"),
    ("U", " ", "USER"),
    ("D", " ", "DIE"),
    ("A", " ", "OVERRIDDEN_ACPI_TABLE"),
    ("W", " ", "WARN"),
    ("C", " ", "CRAP"),
    ("I", " ", "FIRMWARE_WORKAROUND"),
    ("O", " ", "OOT_MODULE"),
    ("E", " ", "UNSIGNED_MODULE"),
    ("L", " ", "SOFTLOCKUP"),
    ("K", " ", "LIVEPATCH"),
    ("X", " ", "AUX"),
    ("T", " ", "RANDSTRUCT"),
    ("N", " ", "TEST"),
    ("J", " ", "FWCTL"),
)


@dataclass(slots=True)
class Taint:
    """tainted_mask, kept as the set of letters that were added."""

    letters: set[str] = field(default_factory=set)

    def add(self, letter: str) -> None:
        """add_taint(): `letter` is one of TAINT_FLAGS; ValueError otherwise."""
        if letter not in {flag for flag, _, _ in TAINT_FLAGS}:
            raise ValueError(f"unknown taint flag {letter!r}")
        self.letters.add(letter)

    def __str__(self) -> str:
        """print_tainted(): `Not tainted`, or `Tainted: ` and one column for each flag."""
        if not self.letters:
            return "Not tainted"
        return "Tainted: " + "".join(on if on in self.letters else off for on, off, _ in TAINT_FLAGS)

    def names(self) -> str | None:
        """The `Tainted: [O]=OOT_MODULE, ...` line, None when not tainted (print_tainted_verbose())."""
        if not self.letters:
            return None
        return "Tainted: " + ", ".join(f"[{on}]={name}" for on, _, name in TAINT_FLAGS if on in self.letters)


@dataclass(frozen=True, slots=True)
class Where:
    """Which CPU and task a report speaks of, and of which kernel."""

    cpu: int
    uid: int
    pid: int
    comm: str
    release: str  # "6.18.35"
    version: str  # "#1"
    preempt: str = "PREEMPT"
    hardware: str | None = None


def dump_stack_print_info(where: Where, taint: Taint) -> list[str]:
    """The `CPU: ... PID: ...`, `Tainted:` and `Hardware name:` lines, without a log level."""
    lines = [
        f"CPU: {where.cpu} UID: {where.uid} PID: {where.pid} Comm: {where.comm[:20]} "
        f"{taint} {where.release} {where.version} {where.preempt} "
    ]
    names = taint.names()
    if names is not None:
        lines.append(names)
    if where.hardware is not None:
        lines.append(f"Hardware name: {where.hardware}")
    return lines


def end_trace() -> str:
    """print_oops_end_marker() (the id is all zeroes since 6.4)."""
    return "---[ end trace 0000000000000000 ]---"
