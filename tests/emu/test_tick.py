"""The timer interrupts user code: threads that wait in loops, timeouts, and the end of what would never end."""

import pytest

import emu
from emu.explore.oracles import RandomWalk
from kernel_model.errors import BudgetExceededError
from kernel_model.sched.core import TICK_NS
from kernel_model.sched.oracle import History, RunUntilBlock

TURNS, ROUNDS, M64 = 5, 20_000, 2**64 - 1
ETIMEDOUT = 110


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def computed(me):
    x = me + 1
    for _ in range(TURNS):
        for j in range(ROUNDS):
            x ^= x << 13 & M64
            x ^= x >> 7
            x ^= x << 17 & M64
            if x % 3 == 0:
                x = x + j & M64
    return x


SUMS = b"".join(computed(me).to_bytes(8, "little") for me in (0, 1))


def run(kernel, oracle, **variables):
    sched = kernel.processes.sched
    sched.history, sched.oracle = History(), oracle
    try:
        return kernel.run_user("spin", variables, read={"sums": 16, "finished": 4, "slept": 8})
    finally:
        sched.oracle = RunUntilBlock()


@pytest.mark.parametrize("oracle", [RunUntilBlock(), RandomWalk(1), RandomWalk(2)], ids=["default", "one", "two"])
def test_who_waits_in_a_loop_gives_way_and_no_register_is_lost(kernel, oracle):
    result = run(kernel, oracle)
    assert result.exit_code == 5 and result.values["finished"] == (2).to_bytes(4, "little")
    assert result.values["sums"] == SUMS


def test_the_interrupt_goes_through_the_kernel(kernel):
    entered = []
    kernel.machine.on_kcall = lambda name, arguments: entered.append(name)
    try:
        run(kernel, RunUntilBlock())
    finally:
        kernel.machine.on_kcall = None
    ticks = entered.count("sched_tick")
    assert ticks == kernel.processes.sched.ticks >= 2 * TURNS * 2
    assert "context_switch" in entered[entered.index("sched_tick") :], "a task of the same CPU was let in by schedule()"


def test_where_ticks_fall_is_the_same_in_every_kernel(kernel):
    def decisions(of):
        before = of.clock.now
        run(of, RandomWalk(3))
        first = of.processes.sched.history.decisions[0].current
        return of.clock.now - before, [(d.kind, [p - first for p in d.options], d.chosen)
                                       for d in of.processes.sched.history.decisions]

    once = decisions(kernel)
    assert any(kind == "tick" for kind, _, _ in once[1])
    assert decisions(kernel) == once
    assert decisions(emu.boot(arch=kernel.arch.name)) == once


def test_a_timeout_ends_while_others_compute_and_exit_group_ends_their_loops(kernel):
    before = kernel.clock.now
    free = kernel.init_mm.pages.nr_free
    patience = bytes(8) + (7_000_000).to_bytes(8, "little")
    result = run(kernel, RunUntilBlock(), turn=(2).to_bytes(4, "little"), patience=patience)
    assert result.exit_code == 5 and result.values["finished"] == bytes(4)
    assert int.from_bytes(result.values["slept"], "little", signed=True) == -ETIMEDOUT
    assert 7 * TICK_NS <= kernel.clock.now - before < 12 * TICK_NS
    assert kernel.init_mm.pages.nr_free == free


def test_a_loop_without_end_is_one_clear_error(kernel):
    kernel.processes.sched.max_ticks = 50
    wild = r"^spin/\d+: the guest runs wild: 50 ticks of user code, and no end$"
    with pytest.raises(BudgetExceededError, match=wild):
        run(kernel, RunUntilBlock(), turn=(2).to_bytes(4, "little"))
    kernel.processes.sched.max_ticks = 10_000
    assert run(kernel, RunUntilBlock()).exit_code == 5, "the kernel is as good as new"
