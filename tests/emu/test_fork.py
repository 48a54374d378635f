"""Processes that make processes: copies on write, exit statuses, waiting, under schedules that an oracle chooses."""

import random

import pytest

import emu


class Dice:
    """Chooses at random, from a seed."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def choose(self, options, current, kind):
        return self._random.randrange(len(options))


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    run(booted)  # from now on the stacks of tasks are cached
    return booted


def run(kernel, **variables):
    values = {name: value.to_bytes(4, "little") for name, value in variables.items()}
    return kernel.run_user("fork", values, read={"errors": 4, "statuses": 8, "children": 16, "data": 8})


def resources(kernel):
    return kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms), len(kernel.tasks.by_address)


@pytest.mark.parametrize("seed", range(12))
def test_each_process_has_its_own_memory_and_its_parent_learns_how_it_ended(kernel, seed):
    sched = kernel.processes.sched
    sched.oracle, before = Dice(seed), len(sched.history.decisions)
    held = resources(kernel)
    result = run(kernel)
    assert (result.exit_code, result.signal, result.values["errors"]) == (0, None, bytes(4))
    first, second = (int.from_bytes(result.values["statuses"][i : i + 4], "little") for i in (0, 4))
    assert (first, second) == (20 << 8, 11), "exit(20) and SIGSEGV"
    assert int.from_bytes(result.values["data"], "little") == 11
    assert len(sched.history.decisions) > before
    assert resources(kernel) == held and not sched.group_exit and not kernel.rcu.pending


@pytest.mark.parametrize("seed", range(8))
def test_orphans_go_with_the_program_that_made_them(kernel, seed):
    kernel.processes.sched.oracle = Dice(seed)
    held = resources(kernel)
    result = run(kernel, wait_for_all=0)
    assert (result.exit_code, result.values["statuses"]) == (0, bytes(8))
    assert resources(kernel) == held and not kernel.processes.sched.run_list
