"""khungtaskd's rules, without a machine: who is reported, when, and what is said of the lock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernel_model.panic import Taint
from kernel_model.sched.hung_task import HungTasks
from kernel_model.sched.task import TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE, TASK_WAKEKILL

SECOND = 1_000_000_000
MUTEX, SEM, READER, WRITER = range(4)
NOLOAD, FROZEN = 0x400, 0x8000


def make_task(pid, state=TASK_UNINTERRUPTIBLE, blocker=0):
    view = SimpleNamespace(nvcsw=1, blocker=blocker, flags=0x208040)
    return SimpleNamespace(pid=pid, tgid=pid, comm=f"t{pid}", state=state, blocked=True, view=view, frames=[],
                           address=0x1000 * pid)  # fmt: skip


class Locks:
    """Views of a mutex, a semaphore or an rwsem whose owner word is `word`; `count` is the rwsem's."""

    def __init__(self, word=0, count=0):
        self.word = word
        self.count = count

    def view(self, struct, address):
        assert address == 0x5500
        return SimpleNamespace(last_holder=self.word, owner=SimpleNamespace(counter=self.word),
                               count=SimpleNamespace(counter=self.count))  # fmt: skip


def detector(word=0, count=0, **how):
    system = SimpleNamespace(taint=Taint(), profile=SimpleNamespace(release="6.18.0", version="#1"))
    dumper = SimpleNamespace(thread_flags=lambda task: 0x80000)
    return HungTasks(system, Locks(word, count), dumper, lambda task: 2, timeout=5, **how)


def reports(lines):
    return [line for line in lines if line.startswith("INFO: ")]


def test_a_task_is_seen_once_and_reported_from_then_on():
    found, task = detector(), make_task(7)
    assert found.check([task], 5 * SECOND) == []
    assert found.check([task], 9 * SECOND) == []
    assert found.check([task], 10 * SECOND) == [
        "INFO: task t7:7 blocked for more than 5 seconds.", "      Not tainted 6.18.0 #1",
        '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
        "task:t7              state:D stack:0     pid:7     tgid:7     ppid:2      "
        "task_flags:0x208040 flags:0x00080000",
    ]  # fmt: skip
    assert reports(found.check([task], 22 * SECOND)) == ["INFO: task t7:7 blocked for more than 17 seconds."]


def test_a_task_that_was_switched_meanwhile_begins_anew():
    found, task = detector(), make_task(7)
    found.check([task], 0)
    task.view.nvcsw += 1
    assert found.check([task], 6 * SECOND) == [] and found.check([task], 10 * SECOND) == []
    assert reports(found.check([task], 11 * SECOND)) == ["INFO: task t7:7 blocked for more than 5 seconds."]


@pytest.mark.parametrize("state", [TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE | TASK_WAKEKILL,
                                   TASK_UNINTERRUPTIBLE | NOLOAD, TASK_UNINTERRUPTIBLE | FROZEN])
def test_sleeps_that_are_left_alone(state):
    found, task = detector(), make_task(7, state)
    assert found.why_not(task)
    assert found.check([task], 0) == [] and found.check([task], 60 * SECOND) == []


def test_nothing_is_said_after_an_oops():
    found, task = detector(), make_task(7)
    found.check([task], 0)
    found.system.taint.add("D")
    assert found.check([task], 60 * SECOND) == []


def test_warnings_run_out():
    found, task = detector(warnings=2), make_task(7)
    found.check([task], 0)
    assert found.check([task], 5 * SECOND)[-1].startswith("task:")
    assert found.check([task], 10 * SECOND)[-1] == (
        "Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings"
    )
    assert found.check([task], 15 * SECOND) == []


@pytest.mark.parametrize(("kind", "bits", "line"), [
    (MUTEX, 1, "INFO: task t7:7 is blocked on a mutex likely owned by task t9:9."),
    (SEM, 0, "INFO: task t7:7 blocked on a semaphore likely last held by task t9:9"),
    (READER, 0, "INFO: task t7:7 <reader> blocked on an rw-semaphore likely owned by task t9:9 <writer>"),
    (WRITER, 3, "INFO: task t7:7 <writer> blocked on an rw-semaphore likely owned by task t9:9 <reader>"),
])  # fmt: skip
def test_the_owner_is_named_and_shown_unless_he_hangs_too(kind, bits, line):
    waiter, owner = make_task(7, blocker=0x5500 | kind), make_task(9, TASK_UNINTERRUPTIBLE | TASK_WAKEKILL)
    found = detector(owner.address | bits)
    found.check([waiter, owner], 0)
    lines = found.check([owner, waiter], 5 * SECOND)
    assert lines[4] == line and lines[5].startswith("task:t9 ") and len(lines) == 6
    owner.state = TASK_UNINTERRUPTIBLE
    found.check([waiter, owner], 6 * SECOND)
    lines = found.check([waiter, owner], 11 * SECOND)
    assert [text.split()[0] for text in lines if text.startswith("task:")] == ["task:t7", "task:t9"]


def test_a_locked_rwsem_is_a_writers_whatever_its_owner_word_says():
    waiter, owner = make_task(7, blocker=0x5500 | READER), make_task(9)
    found = detector(owner.address | 1, count=1)
    found.check([waiter, owner], 0)
    line = "INFO: task t7:7 <reader> blocked on an rw-semaphore likely owned by task t9:9 <writer>"
    assert line in found.check([waiter, owner], 5 * SECOND)


@pytest.mark.parametrize(("kind", "what"), [
    (MUTEX, "a mutex, but the owner"), (SEM, "a semaphore, but the last holder"),
    (READER, "an rw-semaphore, but the owner"), (WRITER, "an rw-semaphore, but the owner"),
])  # fmt: skip
def test_nobody_owns_it(kind, what):
    waiter = make_task(7, blocker=0x5500 | kind)
    found = detector()
    found.check([waiter], 0)
    assert found.check([waiter], 5 * SECOND)[-1] == f"INFO: task t7:7 is blocked on {what} is not found."
