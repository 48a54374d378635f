"""Comparing what the kernel printed with what a real one printed."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import images
from emu import Kernel

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kernel-texts"
# what differs between two builds, two boots or two machines
_RULES = [
    (re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+"), "+OFF/SIZE"),
    (re.compile(r"0x[0-9a-f]{5,}"), "NUMBER"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "NUMBER"),
    (re.compile(r"EFLAGS: [0-9a-f]{8}"), "EFLAGS"),
    (re.compile(r"(CPU|PID): \d+"), r"\1: N"),
    (re.compile(r"\w+\[\d+\]"), "TASK[N]"),
    (re.compile(r"6\.18\.35 #\d+"), "6.18.35 #N"),
    (re.compile(r"golden\.c:\d+"), "golden.c:LINE"),
    (re.compile(r"^pstate: .*"), "pstate"),
]
_WALK = re.compile(r"(?<==)[0-9a-f]+|(?<=[DE] )[0-9a-f]+")


def _keep_what_is_the_same(line: str) -> str | None:
    """Lines whose numbers say something by themselves; None for all others."""
    if line.startswith(("PGD ", "[")):  # each level of the walk: there or not
        return _WALK.sub(lambda m: "ENTRY" if m[0].strip("0") else "0", re.sub(r"^\[\w+\]", "[]", line))
    if line.startswith("Code:"):  # how much of it can be read
        return "Code: Unable" if "Unable" in line else "Code: " + "?" * line.count("?")
    if line.startswith(("  ESR", "Internal error", "ESR:")):
        return line
    small = re.search(r"address:? (0{13}[0-9a-f]{3})$", line)
    return line if small else None


def mask(text: str) -> list[str]:
    """The lines of a kernel text without what differs between two builds or two boots."""
    out: list[str] = []
    for line in text.splitlines():
        if line.startswith("** replaying"):  # the console lost the rest of a line and begins it again
            out.pop()
        if not line or line.startswith((" ? ", "PKRU:", "Hardware name:", "#MARK#", "** replaying")):
            continue
        kept = _keep_what_is_the_same(line)
        if kept is None:
            for pattern, to in _RULES:
                line = pattern.sub(to, line)
        out.append(line if kept is None else kept)
    return out


@pytest.fixture
def masked() -> Callable[[str], list[str]]:
    return mask


@pytest.fixture
def golden() -> Callable[[str, str], str]:
    """golden(arch, case): the reference text of 6.18.35; on arm64 of a CPU with PAN where there is one."""

    def read(arch: str, case: str) -> str:
        for name in (f"{arch}-6.18.35-{case}-cpumax.txt", f"{arch}-6.18.35-{case}.txt"):
            if (GOLDEN / name).exists():
                return (GOLDEN / name).read_text()
        raise AssertionError(f"no reference text of {case} on {arch}")

    return read


@pytest.fixture
def replaced(kernel: Kernel) -> Iterator[Callable[[str, Callable[..., object]], None]]:
    """replaced(name, function) implements a kcall differently for one test; `kernel` is the module's own fixture."""
    machine = kernel.machine
    before = list(machine._kcalls)

    def replace(name: str, function: Callable[..., object]) -> None:
        table = list(machine._kcalls)
        table[machine._names.index(name)] = function
        machine._kcalls = table

    yield replace
    machine._kcalls = before


@pytest.fixture
def run_native() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """run_native(program): images/user/<program>.x86_64 as a process of this machine, where it is one that can."""

    def run(program: str) -> subprocess.CompletedProcess[str]:
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            pytest.skip(f"{program}.x86_64 needs an x86-64 Linux, this is {platform.system()} on {platform.machine()}")
        path = Path(images.__file__).parent / "user" / f"{program}.x86_64"
        limited = ["sh", "-c", 'ulimit -S -s 8192 && exec "$0"', str(path)]  # the stack that programs have in kemu
        return subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)

    return run
