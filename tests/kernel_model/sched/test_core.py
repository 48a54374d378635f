"""Who may run, who is asked, and what happens where nobody can: the scheduler on tasks without a machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernel_model.errors import BudgetExceededError
from kernel_model.sched.core import DECISION_NS, Scheduler
from kernel_model.sched.oracle import History, keep_going
from kernel_model.sched.task import (
    TASK_INTERRUPTIBLE,
    TASK_UNINTERRUPTIBLE,
    TASK_WAKEKILL,
    TIF_SIGPENDING,
    TaskExit,
)


class FakeTask:
    def __init__(self, pid, tgid=1):
        self.pid, self.tgid, self.comm = pid, tgid, f"t{pid}"
        self.address = 0x1000 * pid
        self.view = SimpleNamespace(
            cpu=0, on_cpu=0, preempt_count=0, sigkill_pending=False, thread_info_flags=0, nvcsw=0
        )
        self.state, self.cpu, self.frames, self.exit, self.wake_time = 0, 0, [], None, None
        self.blocked = self.spinning = self.in_user = False


class Last:
    """Takes the last option, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def choose(self, options, current, kind):
        self.asked.append((kind, [t.pid for t in options]))
        return len(options) - 1


class World:
    def __init__(self, cpus=(0, 1, 0)):
        self.clock = SimpleNamespace(now=0)
        self.tasks = [FakeTask(pid) for pid in range(1, len(cpus) + 1)]
        registry = SimpleNamespace(by_address={t.address: t for t in self.tasks}, group=lambda task: self.tasks)
        self.sched = Scheduler(registry, self.clock, lambda: self.tasks[0], 2)
        for task, cpu in zip(self.tasks, cpus, strict=True):
            self.sched.start(task, cpu)

    def sleep(self, task, state=TASK_UNINTERRUPTIBLE):
        task.state = state
        assert self.sched.blocks(task)


@pytest.fixture
def world():
    return World()


def test_by_default_a_task_goes_on_until_it_blocks_then_the_next_one(world):
    a, b, c = world.tasks
    assert world.sched.stays(a, "unlock") and world.clock.now == DECISION_NS
    world.sleep(a)
    assert world.sched.pick(a) is b
    world.sleep(b)
    assert world.sched.pick(b) is c
    assert world.sched.history.deviations() == []


def test_the_oracle_is_asked_only_where_there_is_a_choice(world):
    a, b, c = world.tasks
    oracle = world.sched.oracle = Last()
    world.sleep(b)
    world.sleep(c)
    assert world.sched.stays(a, "point") and not oracle.asked
    assert world.sched.wake(c, TASK_UNINTERRUPTIBLE)
    assert not world.sched.stays(a, "wake") and world.sched.pick(a) is c
    assert oracle.asked == [("wake", [1, 3])]
    assert world.sched.history.deviations() == [(0, 1)], "run-until-block would have stayed"


def test_a_task_that_may_not_be_preempted_keeps_its_cpu_not_the_other_one(world):
    a, b, c = world.tasks  # a and c share CPU 0
    world.sched.on_cpu[0] = a
    a.view.preempt_count = 1
    oracle = world.sched.oracle = Last()
    world.sched.stays(a, "point")
    assert oracle.asked == [("point", [1, 2])]
    a.view.preempt_count = 0
    world.sched.stays(a, "point")
    assert oracle.asked[-1] == ("point", [1, 2, 3])
    a.in_user = True
    world.sched.stays(a, "user")
    assert oracle.asked[-1] == ("user", [1, 2]), "user mode goes on until it is interrupted"


def test_a_signal_interrupts_whoever_is_on_a_cpu(world):
    a, b, c = world.tasks
    sent = []
    world.sched.smp_send_reschedule = sent.append
    world.sched.on_cpu[:] = [a, b]
    for task in world.tasks:
        world.sched.signal_wake_up(task, fatal=False)
        assert task.view.thread_info_flags & TIF_SIGPENDING
    assert sent == [0, 1], "c is not current"
    world.sleep(b)
    world.sched.kill(b)
    assert sent == [0, 1] and b.blocked, "nor does one that sleeps run"


def test_who_spins_waits_for_somebody_else_to_move(world):
    a, b, c = world.tasks
    assert not world.sched.stays(a, "spin") and world.sched.pick(a) is b
    assert not world.sched.stays(b, "spin") and world.sched.pick(b) is c, "a has not been let go on: b only spun"
    world.sched.stays(c, "point")
    assert not a.spinning and not b.spinning


def test_nobody_but_spinners_is_a_livelock_and_ends():
    world = World((0,))
    with pytest.raises(BudgetExceededError, match="livelock: t1/1 spin"):
        for _ in range(200_000):
            world.sched.stays(world.tasks[0], "spin")


def test_a_wake_up_before_schedule_is_not_lost(world):
    a = world.tasks[0]
    a.state = TASK_UNINTERRUPTIBLE
    assert world.sched.wake(a, TASK_UNINTERRUPTIBLE)
    assert not world.sched.blocks(a)
    assert not world.sched.wake(a, TASK_UNINTERRUPTIBLE), "it was not asleep"


def test_time_passes_to_the_next_timeout_where_nothing_else_can_happen(world):
    a, b, c = world.tasks
    for task, when in ((a, 9_000_000), (b, 5_000_000), (c, None)):
        world.sleep(task)
        task.wake_time = when
    assert world.sched.pick(c) is b and world.clock.now >= 5_000_000
    world.sleep(b)
    assert world.sched.pick(b) is a and world.clock.now >= 9_000_000
    world.sleep(a)
    assert world.sched.pick(a) is None, "c waits for ever"


def test_a_kill_wakes_the_killable_and_marks_the_others(world):
    a, b, c = world.tasks
    world.sleep(b, TASK_UNINTERRUPTIBLE | TASK_WAKEKILL)
    world.sleep(c, TASK_UNINTERRUPTIBLE)
    world.sched.ended(a, TaskExit(0, group=True))
    assert not b.blocked and c.blocked and b.view.sigkill_pending and c.view.sigkill_pending
    b.state = TASK_INTERRUPTIBLE
    assert not world.sched.blocks(b), "no new sleep with a fatal signal pending"
    assert world.sched.group_exit[1].code == 0


def test_an_oops_ends_one_thread_alone(world):
    a, b, _ = world.tasks
    world.sched.ended(a, TaskExit(9, oops=True))
    assert not b.view.sigkill_pending and a not in world.sched.run_list


def test_a_budget_of_decisions(world):
    world.sched.max_decisions = 3
    with pytest.raises(BudgetExceededError, match="budget of 3 decisions"):
        for _ in range(10):
            world.sched.stays(world.tasks[0], "point")
    world.sched.history = History()


def test_round_robin_by_pid():
    tasks = [FakeTask(pid) for pid in (2, 5, 9)]
    assert [keep_going(tasks, FakeTask(pid)) for pid in (2, 3, 5, 9, 10)] == [0, 1, 1, 2, 0]
    assert keep_going(tasks, None) == 0
