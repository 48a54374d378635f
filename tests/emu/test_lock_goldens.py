"""What the real kernel printed of the mmap_lock deadlock, against what ours prints.

The references come from a 6.18.35 build whose task_vma iterator is that of 6.18.26 (mmap_lock form); so is the profile
here. Masked beside what tests/emu/conftest.py masks: register values, addresses and pids of locks and tasks, the names
of the BPF program's tag, and the third thread, which the reference's process does not have at that point. Frames of
the two kernels that differ by the compiler's inlining are listed below.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from emu.scenarios.task_vma import Experiment
from kernel_model import profiles
from kernel_model.profiles import TaskVma

HYBRID = replace(profiles.get("v6.18"), task_vma=TaskVma.MMAP_LOCK)
_RULES = [
    (re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+"), ""),
    (re.compile(r"\b[0-9a-f]{16}\b"), "NUMBER"),
    (re.compile(r"(CPU|PID): \d+"), r"\1: N"),
    (re.compile(r"(pid|tgid|ppid):\d+ +"), r"\1:N "),
    (re.compile(r"(dl\w*)/\d+"), r"\1/N"),
    (re.compile(r"bpf_prog_[0-9a-f]{16}"), "bpf_prog_TAG"),
    (re.compile(r"(RIP: 0033:)0x[0-9a-f]+"), r"\1USER"),
    (re.compile(r"EFLAGS: [0-9a-f]{8}"), "EFLAGS"),
]
_REGISTERS = re.compile(r"^(R\w\w|Code): ")


def comparable(lines):
    out = []
    for line in lines:
        if line.startswith((" ? ", "#MARK#", "Hardware name:")) or re.match(r"R(AX|DX|BP|10|13): ", line):
            continue
        if line.startswith("Code: "):
            line = "Code:"
        for pattern, to in _RULES:
            line = pattern.sub(to, line)
        if line.startswith("RSP: "):
            line = line.split(":")[0]
        out.append(line.rstrip())
    return out


def between(lines, first, last):
    start = next(i for i, line in enumerate(lines) if first in line)
    end = next(i for i, line in enumerate(lines) if i > start and last in line)
    return lines[start:end]


@pytest.fixture(scope="module")
def stuck():
    """Texts of the blocked tasks and the locks held, by a kernel that tracks locks and proves nothing."""
    experiment, texts = Experiment("x86_64", HYBRID, lockdep=True), {}

    def look(task):
        texts["blocked"] = experiment.kernel.show_blocked_tasks()
        texts["locks"] = experiment.kernel.lockdep.show_all_locks()

    experiment.on_stuck = look
    assert experiment(experiment.oracle("queued", 0)).outcome == "deadlock"
    return texts


@pytest.mark.parametrize("name", ["dl_runner", "dl_mapper"])
def test_blocked_task(stuck, golden, name):
    reference = golden("x86_64", "taskvma_mmaplock_hang").splitlines()
    mine = between(stuck["blocked"] + ["task:"], f"task:{name}", "task:" if name == "dl_runner" else "task:")
    theirs = between(reference, f"task:{name}", "task:" if name == "dl_runner" else "#MARK#")
    assert comparable(mine) == comparable(theirs)


def test_locks_held(stuck, golden):
    reference = golden("x86_64", "taskvma_mmaplock_hang").splitlines()
    for name, count in (("dl_runner", 4), ("dl_mapper", 2)):
        where = [next(i for i, line in enumerate(text) if f"held by {name}/" in line)
                 for text in (stuck["locks"], reference)]
        mine, theirs = stuck["locks"][where[0] : where[0] + count], reference[where[1] : where[1] + count]
        assert comparable(mine) == comparable(theirs)


def test_splat_of_a_proving_kernel(golden):
    experiment = Experiment("x86_64", HYBRID, prove=True)
    experiment(experiment.oracle("no-writer", 0))  # no writer and no fault are needed
    reference = golden("x86_64", "taskvma_mmaplock_lockdep_then_hang")
    theirs = reference[: reference.index("main tid")].splitlines()
    assert comparable(experiment.splat) == comparable(theirs)
    assert experiment.kernel.lockdep.show_all_locks() == ["INFO: lockdep is turned off."]


def test_the_detector_is_as_silent_as_the_reference(stuck, golden):
    assert "INFO: task" not in golden("x86_64", "taskvma_mmaplock_hang")
    experiment, said = Experiment("x86_64", HYBRID), []

    def look(task):
        kernel = experiment.kernel
        for _ in range(5):
            kernel.clock.now += 5_000_000_000
            said.extend(kernel.hung_tasks.check(kernel.processes.sched.run_list, kernel.clock.now))

    experiment.on_stuck = look
    experiment.kernel.hung_tasks.timeout = 5
    assert experiment(experiment.oracle("queued", 0)).outcome == "deadlock" and not said
