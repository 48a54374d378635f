"""Interrupts that are raised from outside: the guest handles them and goes on as if nothing had been."""

import pytest

import emu
from arch.x86_64.traps import IRQ_WORK_VECTOR

IPI_IRQ_WORK, IPI_UNKNOWN = 5, 9


def interrupt_at_each_start(kernel, number):
    """Raise interrupt `number` whenever a CPU is about to go on; where it went on, and in which mode."""
    machine, taken = kernel.machine, []
    resume = machine.resume

    def interrupted(cpu, ip):
        if cpu.raise_irq(number, ip):
            taken.append(ip)
            ip = cpu.ip
        resume(cpu, ip)

    machine.resume = interrupted
    return taken


@pytest.mark.parametrize("lockdep", [False, True])
@pytest.mark.parametrize(("arch", "number"), [("x86_64", IRQ_WORK_VECTOR), ("arm64", IPI_IRQ_WORK)])
def test_user_mode_and_kernel_go_on(arch, number, lockdep):
    kernel = emu.boot(arch, "v6.18", lockdep=lockdep)
    taken = interrupt_at_each_start(kernel, number)
    result = kernel.run_user("threads", read={"counts": 8})
    assert (result.exit_code, result.dmesg) == (7, "")
    assert result.values["counts"] == (10).to_bytes(4, "little") * 2
    user = [ip for ip in taken if not ip >> 63]
    assert user and len(user) < len(taken), "both modes were interrupted"
    tasks = kernel.tasks.by_address.values()
    assert all(not t.view.hardirq_context and not t.view.preempt_count for t in tasks)


def test_an_unknown_ipi():
    kernel = emu.boot("arm64", "v6.18")
    taken = interrupt_at_each_start(kernel, IPI_UNKNOWN)
    result = kernel.run_user("writer", {}, read={"result": 8})
    assert result.dmesg == "CPU0: Unknown IPI message 0x9\n" * len(taken)
    assert taken


def test_all_that_is_pending_is_handled_at_once():
    kernel = emu.boot("arm64", "v6.18")
    gic = kernel.machine.cpus[0].gic
    gic.make_pending(IPI_UNKNOWN + 1)
    taken = interrupt_at_each_start(kernel, IPI_UNKNOWN)
    result = kernel.run_user("writer", {}, read={"result": 8})
    assert result.dmesg.split("\n")[:2] == ["CPU0: Unknown IPI message 0x9", "CPU0: Unknown IPI message 0xa"]
    assert len(result.dmesg.splitlines()) == len(taken) + 1 and not gic.pending and not gic.active
