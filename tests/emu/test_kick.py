"""A signal for a task that computes on another CPU: it takes it before it gets any further, not at the next tick."""

from __future__ import annotations

import pytest

import emu
from arch.arm64.traps import IPI_RESCHEDULE
from arch.x86_64.traps import RESCHEDULE_VECTOR
from emu.explore.oracles import STRATEGIES
from kernel_model.sched.oracle import RunUntilBlock, keep_going

THREAD, CHILD = range(2)
SIGKILL, SIGUSR1, SIGSEGV, SIGTERM = 9, 10, 11, 15
ERESTARTNOINTR = 513


class SendWhileItComputes:
    """The one that computes is left in user mode; it goes on where a signal has been sent to it."""

    def choose(self, options, current, kind):
        others = [i for i, task in enumerate(options) if task is not current]
        return others[0] if kind in ("user", "wake") and others else keep_going(options, current)


@pytest.fixture(params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


@pytest.fixture
def looked(kernel):
    """looked[kcall]: how many ticks had passed when it was called, each time."""
    calls: dict[str, list[int]] = {}
    kernel.machine.on_kcall = lambda name, _: calls.setdefault(name, []).append(kernel.processes.sched.ticks)
    return calls


@pytest.fixture
def interrupts(kernel):
    """The rescheduling interrupts that were taken: CPU, and whether user mode was interrupted."""
    taken = []
    number = RESCHEDULE_VECTOR if kernel.arch.name == "x86_64" else IPI_RESCHEDULE

    def watched(cpu, raise_irq):
        def take(irq, ip=None):
            at = cpu.ip if ip is None else ip
            done = raise_irq(irq, ip)
            if done and irq == number:
                taken.append((cpu.number, not at >> 63))
            return done

        return take

    for cpu in kernel.machine.cpus:
        cpu.raise_irq = watched(cpu, cpu.raise_irq)
    return taken


def run(kernel, operation, sig=SIGUSR1, points=20, oracle=None):
    processes = kernel.processes
    processes.runner.user_points, processes.sched.oracle = points, oracle or SendWhileItComputes()
    variables = {"operation": operation.to_bytes(4, "little"), "sig": sig.to_bytes(4, "little")}
    result = kernel.run_user("kick", variables, read={"sent": 8, "seen": 8, "status": 4})
    assert (result.exit_code, result.signal) == (5, None)
    return {name: int.from_bytes(value, "little") for name, value in result.values.items()}


def test_a_handler_runs_before_the_next_turn(kernel, looked, interrupts):
    values = run(kernel, THREAD)
    assert values["seen"] == values["sent"] > 0
    assert looked["get_signal"][0] == looked["do_tkill"][0], "no tick has passed"
    assert interrupts == [(1, True)] * 2, "user mode of the other CPU: for the signal, and for the end of all"


@pytest.mark.parametrize("sig", [SIGKILL, SIGTERM, SIGSEGV])
def test_a_child_dies_before_its_next_turn(kernel, looked, interrupts, sig):
    values = run(kernel, CHILD, sig)
    assert (values["status"] & 0x7F, values["seen"]) == (sig, values["sent"])
    assert looked["get_signal"][0] == looked["sys_kill"][0]
    assert (1, True) in interrupts


def test_without_the_interrupt_it_would_be_the_next_tick(kernel, looked, interrupts):
    kernel.processes.sched.smp_send_reschedule = lambda cpu: None
    values = run(kernel, THREAD)
    assert values["seen"] > values["sent"] and not interrupts
    assert looked["get_signal"][0] > looked["do_tkill"][0]


def test_one_that_is_stopped_in_the_kernel_sees_it_on_its_way_out(kernel, looked, interrupts):
    values = run(kernel, THREAD, points=0, oracle=RunUntilBlock())  # it has been stopped in a tick
    assert values["seen"] >= values["sent"]
    assert looked["get_signal"][0] - looked["do_tkill"][0] <= 1, "the sender's tick, for it goes on until then"
    assert interrupts[:-1] in ([], [(1, True)])


def test_nobody_is_kicked_on_the_own_cpu(kernel, interrupts):
    kernel.processes.sched.idlest_cpu = lambda: 0
    run(kernel, THREAD, oracle=RunUntilBlock())
    assert not interrupts


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_any_schedule(kernel, strategy):
    for seed in range(4):
        for operation in (THREAD, CHILD):
            values = run(kernel, operation, points=seed * 7, oracle=STRATEGIES[strategy](seed))
            assert values["seen"] >= values["sent"]
            assert values["status"] == (SIGUSR1 if operation == CHILD else 0)


def test_the_same_every_time(kernel):
    def history():
        sched = kernel.processes.sched
        sched.history.decisions.clear()
        values = run(kernel, THREAD, oracle=STRATEGIES["random"](3))
        return values, [(d.kind, len(d.options), d.chosen) for d in sched.history.decisions]

    first = history()
    assert any(kind == "user" for kind, _, _ in first[1])
    assert history() == first


def test_fork_begins_again_where_a_signal_came_first(kernel, replaced):
    """kernel_clone() finds a signal that came after the system call had begun: -ERESTARTNOINTR, and again."""
    machine, results = kernel.machine, []
    original = machine._kcalls[machine._names.index("kernel_clone")]

    def noted(*arguments):
        result = yield from original(*arguments)
        results.append(result)
        return result

    replaced("kernel_clone", noted)
    for seed in range(4):
        kernel.processes.sched.oracle = STRATEGIES["random"](seed)
        ended = kernel.run_user("sigthreads")
        assert (ended.exit_code, ended.signal) == (0, None), ended.output
    assert -ERESTARTNOINTR in results
    kernel.processes.sched.oracle = RunUntilBlock()
    results.clear()
    kernel.run_user("sigthreads")
    assert results and min(results) > 0, "the default schedule has none"
