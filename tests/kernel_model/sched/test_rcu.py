"""kernel_model/sched/rcu.py: what a grace period waits for."""

import random

import pytest

from kernel_model.errors import KemuError
from kernel_model.sched.rcu import Rcu
from kernel_model.sched.requests import Block, GuestCall


class Task:
    """A task_struct's view."""

    def __init__(self, number):
        self.address = 0x1000 * (number + 1)
        self.pid, self.comm = number, f"task{number}"
        self.rcu_read_lock_nesting = 0
        self.rcu_read_unlock_special = 0
        setattr(self, "__state", 0)


class World:
    def __init__(self, count=3):
        self.tasks = [Task(i) for i in range(count)]
        self.now = self.tasks[0]
        self.rcu = Rcu(lambda: self.tasks, lambda: self.now)
        self.called = []

    def run(self, generator):
        """Through the calls of guest functions; False where it blocks."""
        for request in generator:
            if isinstance(request, Block):
                return False
            assert isinstance(request, GuestCall)
            self.called.append((request.function, *request.arguments))
        return True

    def lock(self, number):
        self.tasks[number].rcu_read_lock_nesting += 1

    def unlock(self, number):
        """rcu_read_unlock() of guest text."""
        task = self.now = self.tasks[number]
        task.rcu_read_lock_nesting -= 1
        if not task.rcu_read_lock_nesting and task.rcu_read_unlock_special:
            self.run(self.rcu.rcu_read_unlock_special(task.address))


@pytest.fixture
def world():
    return World()


def test_without_readers_a_callback_runs_at_once(world):
    world.run(world.rcu.call_rcu(7, 8))
    assert world.called == [(8, 7)] and not world.rcu.pending


def test_a_callback_waits_for_the_readers_of_its_time_only(world):
    world.lock(1)
    world.lock(1)
    world.run(world.rcu.call_rcu(7, 8))
    world.lock(2)  # later: does not count
    world.unlock(1)
    assert world.called == [], "still inside the outer section"
    world.unlock(1)
    assert world.called == [(8, 7)]
    world.unlock(2)
    assert world.called == [(8, 7)]


def test_callbacks_run_in_order(world):
    world.lock(1)
    world.run(world.rcu.call_rcu(1, 8))
    world.lock(2)
    world.run(world.rcu.call_rcu(2, 8))
    world.unlock(1)
    assert world.called == [(8, 1)]
    world.unlock(2)
    assert world.called == [(8, 1), (8, 2)]


def test_synchronize_rcu_sleeps_until_the_reader_has_left(world):
    assert world.run(world.rcu.synchronize_rcu()), "nobody reads"
    world.lock(1)
    waiter = world.rcu.synchronize_rcu()
    assert isinstance(next(waiter), Block)
    assert getattr(world.tasks[0], "__state") == 2
    world.unlock(1)
    assert world.called == [("wake_up_process", world.tasks[0].address)]
    assert world.run(waiter)
    assert getattr(world.tasks[0], "__state") == 0


def test_a_spurious_wake_up_does_not_end_it(world):
    world.lock(1)
    waiter = world.rcu.synchronize_rcu()
    assert isinstance(next(waiter), Block)
    assert isinstance(next(waiter), Block)
    world.unlock(1)
    assert world.run(waiter)


def test_synchronize_rcu_inside_a_section_is_refused(world):
    world.lock(0)
    with pytest.raises(KemuError, match="inside a read section of task0/0"):
        next(world.rcu.synchronize_rcu())


def test_a_task_that_ends_is_not_waited_for(world):
    world.lock(1)
    world.run(world.rcu.call_rcu(7, 8))
    world.run(world.rcu.left(world.tasks[1].address))
    assert world.called == [(8, 7)]


@pytest.mark.parametrize("seed", range(20))
def test_random_sections(seed):
    """A callback runs exactly once, not before the sections of its time are over, and not later than the last."""
    world, rng = World(4), random.Random(seed)
    waits = {}  # callback -> sections (task, number) that it waits for
    sections, number = {}, 0
    for step in range(300):
        task = rng.randrange(4)
        if rng.random() < 0.2:
            waits[step] = set(sections.items())
            world.run(world.rcu.call_rcu(step, 8))
        elif task in sections and rng.random() < 0.6:
            del sections[task]
            world.unlock(task)
        elif task not in sections:
            sections[task] = number = number + 1
            world.lock(task)
        done = [call[1] for call in world.called]
        assert len(done) == len(set(done))
        live = set(sections.items())
        assert set(done) == {c for c, waited in waits.items() if not waited & live}
