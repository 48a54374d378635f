"""Oracles and the search, on experiments that need no machine."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.explore.oracles import DoesNotFitError, Priorities, RandomWalk, Replay, Stage, Steer, Sticky
from emu.explore.search import explore, minimise, order


@dataclass(frozen=True)
class FakeTask:
    pid: int
    comm: str = ""


@dataclass(frozen=True)
class Made:
    outcome: str
    decisions: int
    deviations: tuple[tuple[int, int], ...]
    reason: str = ""


TASKS = [FakeTask(pid, comm) for pid, comm in ((1, "a"), (2, "b"), (3, "c"))]


def named(comm):
    return lambda task: task.comm == comm


def experiment(fails, length=30):
    """`length` decisions among three tasks; `fails(choices)` says whether it is a deadlock."""

    def run(oracle):
        choices, current = [], TASKS[0]
        for _ in range(length):
            index = oracle.choose(TASKS, current, "point")
            choices.append(index)
        return Made("deadlock" if fails(choices) else "completes", length,
                    tuple((i, c) for i, c in enumerate(choices) if c != 0))

    return run


def test_a_seed_gives_one_walk():
    run = experiment(lambda choices: False)
    assert run(RandomWalk(3)) == run(RandomWalk(3)) != run(RandomWalk(4))
    assert run(Sticky(3)) == run(Sticky(3))
    assert len(run(Sticky(3)).deviations) < len(run(RandomWalk(3)).deviations)


def test_pct_finds_a_bug_of_depth_two_as_often_as_its_paper_promises():
    """`a` must be overtaken at one of 10 decisions: depth 2, 3 tasks, so at least once in 3 * 10 seeds."""
    run = experiment(lambda choices: choices[:5] == [0] * 5 and choices[5] != 0, length=10)
    found = sum(run(Priorities(seed, depth=2, steps=10)).outcome == "deadlock" for seed in range(3000))
    assert found >= 3000 / 30 * 0.8


def test_a_walk_takes_every_option():
    run = experiment(lambda choices: False, length=300)
    counts = [sum(c == k for _, c in run(RandomWalk(1)).deviations) for k in (1, 2)]
    assert all(60 < count < 140 for count in counts), "each of three options in about a third of 300 decisions"


@given(st.integers(0, 50))
def test_a_replay_makes_the_same_choices(seed):
    run = experiment(lambda choices: False)
    first = run(RandomWalk(seed))
    assert run(Replay(dict(first.deviations))) == first


def test_a_replay_that_does_not_fit_says_so():
    run = experiment(lambda choices: False)
    with pytest.raises(DoesNotFitError, match="decision 4 has 3 options, it asks for number 7"):
        run(Replay({4: 7}))
    assert run(Replay({4: 7}, strict=False)).deviations == ()


def test_stages_follow_each_other():
    seen = []
    steer = Steer([Stage(named("c"), lambda: len(seen) >= 2), Stage(named("b"), lambda: len(seen) >= 3)])
    for _ in range(5):
        seen.append(TASKS[steer.choose(TASKS, TASKS[0], "point")].comm)
    assert seen == ["c", "c", "b", "a", "a"]
    assert Steer([Stage(named("gone"), lambda: False)]).choose(TASKS, TASKS[1], "point") == 1


def test_tally_counts_and_keeps_the_simplest():
    tally = explore(experiment(lambda choices: choices[5] == 2), map(RandomWalk, range(200)))
    assert tally.runs == 200 and sum(tally.counts.values()) == 200 and len(tally.schedules) == 200
    assert 30 < tally.counts["deadlock"] < 110, "one schedule in three"
    assert all(dict(run.deviations).get(5) == 2 for name, run in tally.simplest.items() if name == "deadlock")


@given(st.integers(0, 40), st.sets(st.integers(0, 29), min_size=1, max_size=3))
def test_minimise_reaches_the_minimum(seed, needed):
    run = experiment(lambda choices: all(choices[i] != 0 for i in needed))
    first = next(r for r in (run(RandomWalk(s)) for s in range(seed, seed + 1000)) if r.outcome == "deadlock")
    small = minimise(run, first)
    assert {number for number, _ in small.deviations} == needed
    assert order(small) <= order(first) and small.outcome == "deadlock"
