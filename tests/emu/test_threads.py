"""Threads of user programs: real system calls, futexes, two vCPUs, and schedules that an oracle chooses."""

import pytest

import emu
from emu.explore.oracles import RandomWalk
from emu.processes import StuckError
from kernel_model.errors import BudgetExceededError


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    run(booted)  # from now on the stacks of threads are cached
    return booted


def run(kernel):
    return kernel.run_user("threads", read={"counts": 8, "ids": 24, "finished": 4})


def test_threads_share_memory_and_wait_for_each_other(kernel):
    result = run(kernel)
    assert result.exit_code == 7 and result.signal is None
    assert result.values["counts"] == (10).to_bytes(4, "little") * 2
    first, second, third = (int.from_bytes(result.values["ids"][i : i + 8], "little") for i in (0, 8, 16))
    assert (second, third) == (first + 1, first + 2)


@pytest.mark.parametrize("seed", range(20))
def test_any_schedule_ends_the_same(kernel, seed):
    sched = kernel.processes.sched
    sched.oracle, before = RandomWalk(seed), len(sched.history.decisions)
    free = kernel.init_mm.pages.nr_free
    result = run(kernel)
    assert result.exit_code == 7 and result.values["counts"] == (10).to_bytes(4, "little") * 2
    assert len(sched.history.decisions) > before
    assert kernel.init_mm.pages.nr_free == free, "every page of the process came back"


def test_both_cpus_are_used(kernel):
    seen = set()
    sched = kernel.processes.sched
    sched.on_exit.append(lambda task: seen.add(task.cpu))
    run(kernel)
    sched.on_exit.pop()
    assert seen == {0, 1}


def test_a_program_that_waits_for_nobody_is_stuck_not_hung(kernel):
    started = kernel.exec("threads")
    with pytest.raises(StuckError, match=r"nothing can move: threads/\d+ in do_futex"):
        # the first thread waits for a count that will not come
        kernel.run_user("threads", {"finished": (5).to_bytes(4, "little")}, started=started)
    assert run(kernel).exit_code == 7, "the kernel is as good as new"


def test_a_program_that_asks_for_ever_runs_wild(kernel):
    kernel.processes.runner.max_sleeping_kcalls = 10_000
    with pytest.raises(BudgetExceededError, match="10000 calls that may sleep"):
        kernel.run_user("threads", {"turn": (2).to_bytes(4, "little")})  # each finds that the futex has changed
    kernel.processes.runner.max_sleeping_kcalls = 2_000_000
    assert run(kernel).exit_code == 7
