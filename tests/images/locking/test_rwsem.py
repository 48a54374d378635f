"""kernel/locking/rwsem.c against the reference model, step by step, over every interleaving of small scripts."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.images.locking.interleave import (
    EINTR,
    KILL,
    SLEEPS,
    SPINS,
    WAKES,
    Call,
    Explorer,
    Outcome,
    Stage,
    State,
    mutual_exclusion,
)
from tests.images.locking.rwsem_model import Model

ARCHES = ("x86_64", "arm64")
READER_OWNED, NONSPINNABLE = 1, 2
FAST_CLOCK, SLOW_CLOCK = 4_000, 3_000_000  # ns that each reading of the clock moves it on: spins end, handoffs happen


@functools.cache
def stage(arch: str) -> Stage:
    return Stage(arch)


def rwsem_calls(lock: int) -> dict[str, Call]:
    """Steps of a script by name."""
    got = {"": None, "_killable": lambda r: r == 0, "_trylock": lambda r: r == 1}
    calls = {}
    for name, what, short in (("read", "R", "r"), ("write", "W", "w")):
        for kind, ok in got.items():
            calls[short + kind[1:2]] = Call(f"down_{name}{kind}", (lock,), takes=what, ok=ok)
        calls["u" + short] = Call(f"up_{name}", (lock,), gives=what)
    return calls | {"d": Call("downgrade_write", (lock,), gives="W")}


class Lockstep:
    """Follows a path with the model and compares all that can be seen of the lock after every step."""

    def __init__(self, stage: Stage, scripts: list[list[Call]]) -> None:
        self.stage, self.scripts = stage, scripts
        offsets = stage.guest.types.offsetof
        self.at = {name: offsets("rw_semaphore", name) for name in ("count", "owner", "osq", "wait_list")}
        self.waiter = {name: offsets("rwsem_waiter", name) for name in ("task", "type", "handoff_set", "timeout")}
        self.path: tuple[tuple[str, int], ...] = ()
        self._reset()

    def _reset(self) -> None:
        self.model = Model(len(self.scripts), self.stage.clock_step)
        self.running: list[Any] = [None] * len(self.scripts)
        self.next = [0] * len(self.scripts)
        self.held: list[list[str]] = [[] for _ in self.scripts]
        self.stops: list[object] = [None] * len(self.scripts)

    def __call__(self, path: tuple[tuple[str, int], ...], state: State) -> None:
        if path[:-1] != self.path:
            self._reset()
            for choice in path[:-1]:
                self._move(choice)
        self._move(path[-1])
        self.path = path
        assert self._seen(state) == self._expected(), f"after {path}"

    def _move(self, choice: tuple[str, int]) -> None:
        kind, task = choice
        if kind == KILL:
            self.model.kill(task)
            return
        if self.running[task] is None and not self._begin(task):
            return
        try:
            self.stops[task] = next(self.running[task])
        except StopIteration as done:
            call = self.scripts[task][self.next[task]]
            if call.takes:
                self.held[task].append(call.takes if call.ok is None or call.ok(done.value) else "")
            self.running[task] = self.stops[task] = None
            self.next[task] += 1

    def _begin(self, task: int) -> bool:
        call, held = self.scripts[task][self.next[task]], self.held[task]
        if call.gives and held.pop() != call.gives:
            self.next[task] += 1
            return False
        if call.function == "downgrade_write":
            held.append("R")
        self.running[task] = getattr(self.model, call.function)(task)
        return True

    def _expected(self) -> dict[str, object]:
        model = self.model
        owner = self.stage.tasks[model.owner] if model.owner is not None else 0
        return {
            "count": model.count(),
            "owner": owner | model.reader_owned | model.nonspinnable << 1,
            "osq": int(model.spinner is not None),
            "queue": [(w.task, w.reader, w.asked, w.deadline) for w in model.queue],
            "stops": self.stops,
            "states": [(model.state[n], not model.awake[n]) for n in range(len(self.scripts))],
            "held": [tuple(h) for h in self.held],
            "clock": model.now,
        }

    def _seen(self, state: State) -> dict[str, object]:
        stage, at = self.stage, self.at
        return {
            "count": stage.read(at["count"]),
            "owner": stage.read(at["owner"]),
            "osq": stage.read(at["osq"], 4),
            "queue": self._queue(),
            "stops": [self._stop(t.kcall) for t in state.tasks],
            "states": [(stage.state(n), t.blocked) for n, t in enumerate(state.tasks)],
            "held": [t.held for t in state.tasks],
            "clock": stage.read(stage.CLOCK),
        }

    def _queue(self) -> list[tuple[int, bool, bool, int]]:
        space, head = self.stage.guest.space, self.stage.lock + self.at["wait_list"]
        found, entry = [], space.read_u64(head)
        while entry != head:
            task, reader, asked, timeout = (space.read_u64(entry + self.waiter[n]) for n in self.waiter)
            found.append((self.stage.tasks.index(task), bool(reader & 0xFF), bool(asked & 0xFF), timeout))
            entry = space.read_u64(entry)
        return found

    def _stop(self, kcall: tuple[str, tuple[int, ...]] | None) -> object:
        if kcall is None:
            return None
        name, arguments = kcall
        if name in WAKES:
            return ("wake", self.stage.tasks.index(arguments[0]))
        return "sleep" if name in SLEEPS else "spin" if name in SPINS else "point"


def explore(
    arch: str, *scripts: str, kills: tuple[int, ...] = (), step: int = FAST_CLOCK, limit: int = 60_000,
    words: set[int] | None = None,
) -> Outcome:
    """All interleavings; a script is names of `rwsem_calls`, separated by blanks. `words` gets every count seen."""
    here = stage(arch)
    here.clock_step = step
    calls = rwsem_calls(here.lock)
    steps = [[calls[name] for name in script.split()] for script in scripts]
    head = here.guest.types.offsetof("rw_semaphore", "wait_list")

    def init(stage: Stage) -> None:
        stage.write(head, stage.lock + head)
        stage.write(head + 8, stage.lock + head)

    def check(state: State) -> None:
        mutual_exclusion(state)
        if words is not None:
            words.add(here.read(0))

    outcome = Explorer(here, steps, init, kills=kills, check=check, lockstep=Lockstep(here, steps),
                       max_states=limit).run()
    for results, blocked, count in outcome.ends:
        done = all(len(r) == len(s) for r, s in zip(results, steps, strict=True))
        assert done == (not blocked)
        if not blocked:
            assert count == 0, "everybody has given back what he took"
    return outcome


def deadlocks(outcome: Outcome) -> set[tuple[tuple[int, ...], int]]:
    return {(blocked, count) for _, blocked, count in outcome.ends if blocked}


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("scripts", [
    ("r ur", "w uw"), ("w uw", "w uw"), ("w d ur", "r ur"), ("w d ur", "w uw"), ("wt uw", "r ur", "wt uw"),
    ("r ur", "r ur", "w uw"), ("rt ur", "w uw", "rt ur"), ("w uw", "w uw", "r ur"), ("w d ur", "r ur", "w uw"),
])  # fmt: skip
def test_every_interleaving_is_the_models(arch: str, scripts: tuple[str, ...]) -> None:
    assert not deadlocks(explore(arch, *scripts))


@pytest.mark.parametrize("arch", ARCHES)
def test_a_recursive_read_deadlocks_or_succeeds(arch: str) -> None:
    """E.1: behind a queued writer for ever; ahead of one that still spins, or that has not come yet."""
    outcome = explore(arch, "r r ur ur", "w uw")
    assert deadlocks(outcome) == {((0, 1), 0x102)}
    assert {blocked for _, blocked, _ in outcome.ends} == {(), (0, 1)}


@pytest.mark.parametrize("arch", ARCHES)
def test_a_reader_passes_a_writer_that_still_spins(arch: str) -> None:
    """The third outcome, by one schedule: the writer is in its spin when the second read succeeds at once."""
    here = stage(arch)
    here.clock_step = 0  # the spin does not end
    calls = rwsem_calls(here.lock)
    steps = [[calls[n] for n in s.split()] for s in ("r r ur ur", "w uw")]
    head = here.guest.types.offsetof("rw_semaphore", "wait_list")

    def init(stage: Stage) -> None:
        stage.write(head, stage.lock + head)
        stage.write(head + 8, stage.lock + head)

    explorer = Explorer(here, steps, init)
    state = explorer.start
    for number in (0, 0, 1, 1, 1):
        state = explorer.advance(state, ("run", number))
    assert here.read(0) == 0x100, "it spins, nobody is queued"
    assert here.read(Lockstep(here, steps).at["osq"], 4) == 1
    for _ in range(2):
        state = explorer.advance(state, ("run", 0))
    assert state.tasks[0].held == ("R", "R") and here.read(0) == 0x200
    for number, end in ((0, 4), (1, 2)):
        while state.tasks[number].at < end:
            state = explorer.advance(state, ("run", number))
    assert here.read(0) == 0


@pytest.mark.parametrize("arch", ARCHES)
def test_a_killable_wait_ends_with_a_signal(arch: str) -> None:
    """Both ends of the deadlock: SIGKILL to the writer lets the reader go on, and the other way round."""
    outcome = explore(arch, "r rk ur ur", "wk uw", kills=(1,))
    assert {r[1][0] for r, blocked, _ in outcome.ends if not blocked} == {0, EINTR}
    assert not deadlocks(outcome) or all(count == 0x102 for _, count in deadlocks(outcome))
    outcome = explore(arch, "r rk ur ur", "w uw", kills=(0,))
    assert {r[0][1] for r, blocked, _ in outcome.ends if not blocked} == {0, EINTR}


@pytest.mark.parametrize("arch", ARCHES)
def test_waiters_that_waited_long_are_handed_the_lock(arch: str) -> None:
    """With a clock that jumps, queued tasks ask for the lock; the model follows them there, too."""
    for scripts in (("r ur", "w uw", "w uw"), ("w uw", "r ur", "w uw"), ("w d ur", "w uw", "r ur")):
        seen: set[int] = set()
        assert not deadlocks(explore(arch, *scripts, step=SLOW_CLOCK, words=seen))
        assert any(count & 4 for count in seen), "somebody asked"


@pytest.mark.long
@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("step", [FAST_CLOCK, SLOW_CLOCK])
@pytest.mark.parametrize("scripts", [
    ("r ur", "r ur", "r ur", "w uw"), ("w uw", "w uw", "r ur", "r ur"), ("w d ur", "r ur", "wt uw", "rt ur"),
    ("r ur r ur", "w uw", "r ur"), ("w d ur", "w d ur", "r ur"), ("r r ur ur", "w uw", "r ur"),
])  # fmt: skip
def test_more_interleavings(arch: str, scripts: tuple[str, ...], step: int) -> None:
    found = deadlocks(explore(arch, *scripts, step=step, limit=2_000_000))
    assert bool(found) == any(s.startswith("r r") for s in scripts)


@pytest.mark.long
@pytest.mark.parametrize("arch", ARCHES)
def test_more_signals(arch: str) -> None:
    for scripts in (("r ur", "wk uw", "rk ur"), ("w uw", "wk uw", "rk ur")):
        for step in (FAST_CLOCK, SLOW_CLOCK):
            assert not deadlocks(explore(arch, *scripts, kills=(1, 2), step=step, limit=2_000_000))
