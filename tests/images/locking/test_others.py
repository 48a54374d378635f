"""Mutexes, spinlocks, semaphores, completions over every interleaving; frames of those who sleep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.images.locking.interleave import EINTR, Call, Explorer, Outcome, Stage, State, mutual_exclusion
from tests.images.locking.test_rwsem import ARCHES, stage

ERESTARTSYS = (1 << 32) - 512
ETIME = (1 << 32) - 62


def explore(
    arch: str, calls: dict[str, Call], *scripts: str, init: tuple[str, ...], kills: tuple[int, ...] = (),
    check: Callable[[State], None] = mutual_exclusion,
) -> Outcome:
    here = stage(arch)
    here.clock_step = 0
    steps = [[calls[name] for name in script.split()] for script in scripts]

    def prepare(stage: Stage) -> None:
        function, *args = init
        stage.guest.call(function, stage.lock, *args)

    return Explorer(here, steps, prepare, kills=kills, check=check).run()


def all_done(outcome: Outcome) -> bool:
    return all(not blocked for _, blocked, _ in outcome.ends) and bool(outcome.ends)


# -- mutex -----------------------------------------------------------------------------------------------------------


def mutex(arch: str, *scripts: str, kills: tuple[int, ...] = (), preempted: bool = False) -> Outcome:
    lock = stage(arch).lock
    stage(arch).preempted = preempted
    calls = {
        "l": Call("mutex_lock_nested", (lock, 0), takes="W"), "u": Call("mutex_unlock", (lock,), gives="W"),
        "t": Call("mutex_trylock", (lock,), takes="W", ok=lambda r: r == 1),
        "k": Call("mutex_lock_killable_nested", (lock, 0), takes="W", ok=lambda r: r == 0),
    }  # fmt: skip
    try:
        return explore(arch, calls, *scripts, init=("__mutex_init", 0, 0), kills=kills)
    finally:
        stage(arch).preempted = False


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("preempted", [False, True], ids=["spinning", "queueing"])
@pytest.mark.parametrize("scripts", [("l u", "l u"), ("l u", "l u", "l u"), ("l u", "t u", "l u"), ("l u l u", "l u")])
def test_a_mutex_has_one_owner_and_loses_no_waiter(arch: str, scripts: tuple[str, ...], preempted: bool) -> None:
    outcome = mutex(arch, *scripts, preempted=preempted)
    assert all_done(outcome)
    assert {word for *_, word in outcome.ends} == {0}, "owner and flags"


@pytest.mark.parametrize("arch", ARCHES)
def test_a_mutex_taken_twice_waits_for_itself(arch: str) -> None:
    outcome = mutex(arch, "l l")
    owner = stage(arch).tasks[0]
    assert {(blocked, word) for _, blocked, word in outcome.ends} == {((0,), owner | 1)}


@pytest.mark.parametrize("arch", ARCHES)
def test_a_killed_waiter_leaves_the_mutex(arch: str) -> None:
    outcome = mutex(arch, "l u", "k u", "l u", kills=(1,), preempted=True)
    assert all_done(outcome)
    assert {word for *_, word in outcome.ends} == {0}
    assert {r[1][0] for r, *_ in outcome.ends} == {0, EINTR}


# -- spinlock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("kind", ["", "_irq"])
def test_a_spinlock_has_one_owner(arch: str, kind: str) -> None:
    lock = stage(arch).lock
    calls = {
        "l": Call(f"_raw_spin_lock{kind}", (lock,), takes="W"),
        "u": Call(f"_raw_spin_unlock{kind}", (lock,), gives="W"),
        "t": Call("_raw_spin_trylock", (lock,), takes="W", ok=lambda r: r == 1),
        "v": Call("_raw_spin_unlock", (lock,), gives="W"),
    }  # fmt: skip
    outcome = explore(arch, calls, "l u", "t v", "l u l u", init=("init_completion",))
    assert all_done(outcome)
    assert {word & 0xFFFF_FFFF for *_, word in outcome.ends} == {0}
    assert {r[1][0] for r, *_ in outcome.ends} == {0, 1}


@pytest.mark.parametrize("arch", ARCHES)
def test_a_spinlock_taken_twice_spins_for_ever(arch: str) -> None:
    calls = {"l": Call("_raw_spin_lock", (stage(arch).lock,), takes="S")}
    outcome = explore(arch, calls, "l l", init=("init_completion",))
    assert not outcome.ends


# -- semaphore -------------------------------------------------------------------------------------------------------


def semaphore(arch: str, count: int, *scripts: str, kills: tuple[int, ...] = ()) -> Outcome:
    lock = stage(arch).lock
    calls = {
        "d": Call("down", (lock,), takes="S"), "u": Call("up", (lock,), gives="S"),
        "k": Call("down_killable", (lock,), takes="S", ok=lambda r: r == 0),
        "t": Call("down_trylock", (lock,), takes="S", ok=lambda r: r == 0),
    }  # fmt: skip

    def check(state: State) -> None:
        assert Counter(h for t in state.tasks for h in t.held)["S"] <= count

    return explore(arch, calls, *scripts, init=("sema_init", count), kills=kills, check=check)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("count", [1, 2])
def test_a_semaphore_lets_so_many_in(arch: str, count: int) -> None:
    assert all_done(semaphore(arch, count, "d u", "d u", "t u"))
    if count == 1:
        outcome = semaphore(arch, 1, "d u", "k u", kills=(1,))
        assert all_done(outcome) and {r[1][0] for r, *_ in outcome.ends} == {0, EINTR}
    outcome = semaphore(arch, count, "d d d")
    assert {blocked for _, blocked, _ in outcome.ends} == {(0,)}


# -- completion ------------------------------------------------------------------------------------------------------


def completion(arch: str, *scripts: str, kills: tuple[int, ...] = ()) -> Outcome:
    lock = stage(arch).lock
    calls = {
        "w": Call("wait_for_completion", (lock,)), "c": Call("complete", (lock,)), "a": Call("complete_all", (lock,)),
        "k": Call("wait_for_completion_killable", (lock,), takes="C", ok=lambda r: r == 0),
        "t": Call("try_wait_for_completion", (lock,), takes="C", ok=lambda r: bool(r & 1)),
    }  # fmt: skip
    return explore(arch, calls, *scripts, init=("init_completion",), kills=kills)


@pytest.mark.parametrize("arch", ARCHES)
def test_a_completion_releases_as_many_as_were_completed(arch: str) -> None:
    assert all_done(completion(arch, "w", "c"))
    assert all_done(completion(arch, "w", "w", "a"))
    assert all_done(completion(arch, "w", "w", "c c"))
    outcome = completion(arch, "w", "w", "c")
    assert {blocked for _, blocked, _ in outcome.ends} == {(0,), (1,)}
    outcome = completion(arch, "t", "c")
    assert {(r[0][0] & 1, word & 0xFFFF_FFFF) for r, _, word in outcome.ends} == {(0, 1), (1, 0)}
    outcome = completion(arch, "k", "c", kills=(0,))
    assert all_done(outcome) and {r[0][0] for r, *_ in outcome.ends} == {0, ERESTARTSYS}


@pytest.mark.parametrize("arch", ARCHES)
def test_timeouts(arch: str) -> None:
    here = stage(arch)
    Explorer(here, [], lambda stage: None)  # a blank page
    guest, asked = here.guest, []
    answers = dict(here.answers)
    try:
        here.answers |= {"sched_point": lambda: 0, "start_sleep_timer": lambda ns: asked.append(ns) or 0,
                         "context_switch": lambda prev: 0, "stop_sleep_timer": lambda: 0}
        guest.call("sema_init", here.lock, 0)
        assert guest.call("down_timeout", here.lock, 7) & 0xFFFF_FFFF == ETIME
        guest.call("init_completion", here.lock)
        assert guest.call("wait_for_completion_timeout", here.lock, 9) == 0
    finally:
        here.answers = answers
    assert asked == [7_000_000, 9_000_000]


# -- traces ----------------------------------------------------------------------------------------------------------

SCHEDULER = {"__switch_to", "schedule", "__schedule", "schedule_preempt_disabled"}


def frames(here: Stage, state: State, number: int) -> list[str]:
    """Functions of a sleeping task, innermost first, without those of the scheduler."""
    context = state.tasks[number].context
    assert context is not None
    guest = here.guest
    guest.cpu.engine.resume(context)
    if guest.arch == "x86_64":
        fp = int.from_bytes(context[40:48], "little")
    else:
        at = 8 * (guest.cpu._x + 29)
        fp = int.from_bytes(context[at : at + 8], "little")
    found = []
    while True:
        name = guest.name_of(guest.space.read_u64(fp + 8))
        if name == "guest_call_return":
            return [n for n in found if n not in SCHEDULER]
        found.append(name)
        fp = guest.space.read_u64(fp)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(("init", "holder", "waiter", "expected"), [
    (("__init_rwsem", 0, 0), "down_write", "down_read", ["rwsem_down_read_slowpath", "down_read"]),
    (("__init_rwsem", 0, 0), "down_read", "down_write_killable", ["rwsem_down_write_slowpath", "down_write_killable"]),
    (("__mutex_init", 0, 0), "mutex_lock_nested", "mutex_lock_nested", ["__mutex_lock"]),
    (("init_completion",), "", "wait_for_completion", ["schedule_timeout", "__wait_for_common"]),
    (("sema_init", 0), "", "down", ["schedule_timeout", "__down_common", "__down", "down"]),
])  # fmt: skip
def test_traces_of_sleepers(
    arch: str, init: tuple[str, ...], holder: str, waiter: str, expected: list[str]
) -> None:
    """As hung_mutex, hung_completion, rwsem_recursive_real and mmap_lock_real show them; the semaphore as an arm64
    kernel (6.14)."""
    here = stage(arch)
    here.clock_step = 20_000
    steps = [[Call(holder, (here.lock, 0))] if holder else [], [Call(waiter, (here.lock, 0))]]
    explorer = Explorer(here, steps, lambda s: s.guest.call(init[0], s.lock, *init[1:]))
    state = explorer.start
    while state.tasks[0].at < len(steps[0]):
        state = explorer.advance(state, ("run", 0))
    here.views[0].on_cpu = 0  # it sleeps: nobody spins for it
    state = State(explorer._save(), state.tasks)
    while not state.tasks[1].blocked:
        state = explorer.advance(state, ("run", 1))
    assert frames(here, state, 1) == expected
