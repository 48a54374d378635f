"""TLB flushes: x86-64 interrupts the other CPU, or lets it flush when it goes on (lazy); arm64 broadcasts."""

import pytest

import emu
from emu.explore.oracles import RandomWalk
from kernel_model.errors import BudgetExceededError
from kernel_model.sched import core
from kernel_model.sched.oracle import RunUntilBlock

PROGRAM = "vmstress"


@pytest.fixture(scope="module")
def kernel():
    booted = emu.boot(arch="x86_64")
    booted.run_user(PROGRAM)
    return booted


@pytest.fixture
def told(kernel):
    """(kcall, arguments, CPU) of everything that the guest asks for while the test runs."""
    seen = []
    kernel.machine.on_kcall = lambda name, arguments: seen.append((name, arguments, kernel.machine.current_cpu))
    yield seen
    kernel.machine.on_kcall = None
    kernel.processes.sched.oracle = RunUntilBlock()


def test_a_cpu_that_runs_the_same_process_is_interrupted_and_waited_for(kernel, told):
    entered = []
    for cpu in kernel.machine.cpus:
        function = kernel.machine.symbol("flush_tlb_func")
        cpu.engine.hook_address(function, lambda number=cpu.number: entered.append(number))
        cpu.flush_code()
    kernel.processes.sched.oracle = RandomWalk(1)
    assert kernel.run_user(PROGRAM).exit_code == 0
    sent = [(arguments[0], cpu) for name, arguments, cpu in told if name == "native_send_call_func_single_ipi"]
    assert len(sent) > 20 and {target for target, _ in sent} == {0, 1}
    assert all(target != sender for target, sender in sent)
    assert entered.count(0) > 20 and entered.count(1) > 20
    assert any(d.kind == "spin" for d in kernel.processes.sched.history.decisions), "csd_lock_wait()"


def test_an_idle_cpu_is_left_alone_and_flushes_when_a_task_goes_on(kernel, told):
    kernel.processes.sched.oracle = RandomWalk(2)
    flushed, smp = [], kernel.processes.smp
    real = smp.unlazy

    def unlazy(cpu):
        before = smp._seen[cpu]
        real(cpu)
        flushed.append(smp._seen[cpu] != before)

    kernel.processes.runner._unlazy = unlazy
    try:
        assert kernel.run_user("mappings", {"rounds": (3).to_bytes(4, "little")}).signal is None
    finally:
        kernel.processes.runner._unlazy = real
    assert any(flushed) and not all(flushed)
    assert any(name == "tlb_is_lazy" for name, _, _ in told)


def test_a_cpu_that_never_answers_is_waited_for_in_vain(monkeypatch):
    monkeypatch.setattr(core, "_LIVELOCK_ROUNDS", 500)
    kernel = emu.boot(arch="x86_64")  # its CSD stays locked
    kernel.processes.smp._interrupt = lambda cpu, irq: None
    kernel.processes.sched.oracle = RandomWalk(1)
    with pytest.raises(BudgetExceededError, match="livelock: vmstress/"):
        kernel.run_user(PROGRAM)


def test_who_waits_shows_where(kernel, replaced):
    """The frames of a task that waits in csd_lock_wait(), as Linux inlines it."""
    traces = []

    def send(cpu, *_):
        frame, names = kernel.machine.kcall_frame_pointer, []
        while frame and len(names) < 8:
            names.append(kernel.kallsyms.symbol(kernel.space.read_u64(frame + 8)).split("+")[0])
            frame = kernel.space.read_u64(frame)
        traces.append(names)
        kernel.processes.runner.interrupt(cpu, kernel.machine.cpus[cpu].CALL_IRQ)
        return 0

    replaced("native_send_call_func_single_ipi", send)
    kernel.processes.sched.oracle = RandomWalk(1)
    try:
        assert kernel.run_user(PROGRAM).exit_code == 0
    finally:
        kernel.processes.sched.oracle = RunUntilBlock()
    call = ["smp_call_function_many_cond", "on_each_cpu_cond_mask", "native_flush_tlb_multi", "flush_tlb_mm_range",
            "tlb_flush_mmu", "tlb_finish_mmu"]
    assert [*call, "vms_clear_ptes"] in [names[:7] for names in traces]


def test_arm64_broadcasts(told):
    kernel = emu.boot(arch="arm64")
    asked = []
    kernel.machine.on_kcall = lambda name, arguments: asked.append(name)
    assert kernel.run_user(PROGRAM).exit_code == 0
    assert asked.count("tlbi_broadcast") > 20
