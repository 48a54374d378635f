"""Threads that change one address space at the same time: each finds its own memory as it left it."""

from __future__ import annotations

import pytest

import emu
from emu.explore.oracles import STRATEGIES, Replay


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    stress(booted)  # from now on the stacks of threads are cached
    return booted


def stress(kernel, oracle=None, seed=1, **variables):
    if oracle is not None:
        kernel.processes.sched.oracle = oracle
    values = {"seed": seed.to_bytes(4, "little"), **variables}
    return kernel.run_user("vmstress", values, read={"refused": 4, "first_wrong": 16})


def decided(kernel, run):
    """What a run gives, and the decisions that were made in it."""
    history = kernel.processes.sched.history.decisions
    before = len(history)
    result = run()
    return result, [(d.kind, d.chosen) for d in history[before:]]


def resources(kernel):
    return kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms), len(kernel.tasks.by_address)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("seed", range(1, 5))
def test_every_schedule_finds_the_same_contents(kernel, strategy, seed):
    held = resources(kernel)
    expected = stress(kernel, STRATEGIES["sticky"](0), seed).output
    for number in range(3):
        result = stress(kernel, STRATEGIES[strategy](number), seed)
        wrong = [int.from_bytes(result.values["first_wrong"][i : i + 4], "little") for i in range(0, 16, 4)]
        assert (result.exit_code, result.signal, result.dmesg) == (0, None, ""), (wrong, result.output)
        assert result.output == expected
    assert len(expected.splitlines()) == 3
    assert resources(kernel) == held and not kernel.rcu.pending


def test_a_real_kernel_finds_the_same_contents(kernel, run_native):
    native = run_native("vmstress")
    assert (native.returncode, native.stderr) == (0, "")
    assert stress(kernel).output == native.stdout


@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_is_the_same_run(kernel, seed):
    first, chosen = decided(kernel, lambda: stress(kernel, STRATEGIES["random"](seed)))
    second, again = decided(kernel, lambda: stress(kernel, STRATEGIES["random"](seed)))
    assert first == second and chosen == again and len(chosen) > 1000
    assert int.from_bytes(first.values["refused"], "little") > 10, "threads did get in each other's way"


def test_a_replay_is_the_same_run(kernel):
    sched = kernel.processes.sched
    before = len(sched.history.decisions)
    first, chosen = decided(kernel, lambda: stress(kernel, STRATEGIES["sticky"](7)))
    deviations = {i: d.chosen for i, d in enumerate(sched.history.decisions[before:]) if d.chosen != d.default}
    second, again = decided(kernel, lambda: stress(kernel, Replay(deviations)))
    assert first == second and chosen == again and deviations


def test_other_seeds_are_other_programs(kernel):
    assert len({stress(kernel, STRATEGIES["sticky"](0), seed).output for seed in range(1, 5)}) == 4


def test_it_notices_what_cpus_still_have_in_their_tlb(kernel, replaced):
    replaced("mm_cpumask" if kernel.arch.name == "x86_64" else "tlbi_broadcast", lambda *_: 0)
    assert stress(kernel, STRATEGIES["random"](0)).exit_code == 1


def test_it_notices_a_protection_that_does_nothing(kernel, replaced):
    replaced("mprotect_range", lambda *_: 0)
    assert stress(kernel, STRATEGIES["random"](0)).exit_code == 1
