"""Signals and threads: who takes one, what they share, and a wait that goes on where somebody else took the signal."""

from __future__ import annotations

import pytest

import emu
from emu.explore.oracles import STRATEGIES
from kernel_model.sched.oracle import RunUntilBlock

EINTR, ETIMEDOUT = 4, 110


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    booted.run_user("sigthreads")  # from now on the stacks of threads are cached
    return booted


def run(kernel, oracle):
    kernel.processes.sched.oracle = oracle
    result = kernel.run_user("sigthreads", read={"waits": 16, "thieves": 4})
    assert (result.exit_code, result.signal, result.dmesg) == (0, None, ""), result.output
    waits = [int.from_bytes(result.values["waits"][i : i + 8], "little", signed=True) for i in (0, 8)]
    return result, waits


def without_thieves(output):
    return [line for line in output.splitlines() if not line.startswith(("interrupted where", "not where"))]


def resources(kernel):
    return kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms), len(kernel.tasks.by_address)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_any_schedule(kernel, strategy):
    held, seen = resources(kernel), set()
    for seed in range(6):
        result, waits = run(kernel, STRATEGIES[strategy](seed))
        assert set(waits) <= {-EINTR, -ETIMEDOUT, 0}
        seen.add(tuple(without_thieves(result.output)))
    assert len(seen) == 1
    assert resources(kernel) == held and not kernel.processes.sched.group_exit


def test_a_real_kernel_says_the_same(kernel, run_native):
    native = run_native("sigthreads")
    assert (native.returncode, native.stderr) == (0, "")
    assert without_thieves(run(kernel, RunUntilBlock())[0].output) == without_thieves(native.stdout)


def test_waits_go_on_where_another_thread_took_the_signal(kernel):
    calls = []
    kernel.machine.on_kcall = lambda name, arguments: calls.append(name)
    try:
        result, waits = run(kernel, RunUntilBlock())
    finally:
        kernel.machine.on_kcall = None
    assert waits == [-ETIMEDOUT, 0] and result.values["thieves"][0] == 2
    assert calls.count("futex_wait_restart") == 1, "with the time that was left; the other one began again"


def test_some_schedule_interrupts_them(kernel):
    assert any(run(kernel, STRATEGIES["random"](seed))[1] == [-EINTR, -EINTR] for seed in range(6))
