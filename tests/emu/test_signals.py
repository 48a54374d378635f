"""How processes end by signals that nobody handles: what the caller learns, and what is logged."""

from __future__ import annotations

import re

import pytest

import emu
from emu.explore.oracles import RandomWalk
from kernel_model.errors import NotModelledError
from kernel_model.mm.signals import SI_KERNEL, SI_USER, SigInfo
from kernel_model.sched.oracle import RunUntilBlock

BREAKPOINT, UNDEFINED, DIVIDE, PRIVILEGED, KILL, THREAD_KILLS, KILLED_CHILD, CATCH = range(8)
SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGTERM, SIGCHLD, SIGTSTP = 4, 5, 6, 7, 8, 9, 11, 15, 17, 20
VM_FAULT_SIGBUS, VM_FAULT_SIGSEGV = 0x2, 0x40


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    end(booted, THREAD_KILLS)
    return booted


def end(kernel, operation, sig=SIGTERM, target=0):
    values = {"operation": operation, "sig": sig, "target": target}
    variables = {name: value.to_bytes(4, "little", signed=True) for name, value in values.items()}
    return kernel.run_user("trap", variables, read={"where": 8, "status": 4, "caught": 24})


def resources(kernel):
    return kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms), len(kernel.tasks.by_address)


# as Linux 6.18 logs them: what, signal, code, whether the address is that of the instruction, bytes to the printed ip
X86_TRAPS = {
    BREAKPOINT: ("trap int3", SIGTRAP, SI_KERNEL, False, 1),
    UNDEFINED: ("trap invalid opcode", SIGILL, 2, True, 0),
    DIVIDE: ("trap divide error", SIGFPE, 1, True, 0),
    PRIVILEGED: ("general protection fault", SIGSEGV, SI_KERNEL, False, 0),
}
ARM64_TRAPS = {BREAKPOINT: (SIGTRAP, 1), UNDEFINED: (SIGILL, 1), PRIVILEGED: (SIGILL, 1)}


@pytest.mark.parametrize("operation", [BREAKPOINT, UNDEFINED, DIVIDE, PRIVILEGED])
def test_exceptions_end_a_program(kernel, operation):
    if kernel.arch.name == "arm64":
        if operation not in ARM64_TRAPS:
            return  # a division by zero is 0
        result = end(kernel, operation)
        where = int.from_bytes(result.values["where"], "little")
        assert result.signal == SigInfo(*ARM64_TRAPS[operation], where) and result.exit_code is None
        assert result.dmesg == "", "show_unhandled_signals is 0"
        return
    result = end(kernel, operation)
    what, signo, code, there, behind = X86_TRAPS[operation]
    where = int.from_bytes(result.values["where"], "little")
    assert result.signal == SigInfo(signo, code, where if there else 0) and result.exit_code is None
    line = re.fullmatch(r"traps: trap\[\d+\] (.*) ip:([0-9a-f]+) sp:[0-9a-f]+ error:0 in trap\[.*\]\n", result.dmesg)
    assert line is not None and line[1] == what and int(line[2], 16) == where + behind


@pytest.mark.parametrize("operation", [KILL, THREAD_KILLS])
@pytest.mark.parametrize("sig", [SIGTERM, SIGKILL, SIGABRT, 40])
def test_a_program_that_kills_itself(kernel, operation, sig):
    held = resources(kernel)
    for seed in range(3):
        kernel.processes.sched.oracle = RandomWalk(seed)
        result = end(kernel, operation, sig)
        assert (result.signal.signo, result.signal.code, result.exit_code) == (sig, SI_USER, None)
        assert result.signal.pid and result.dmesg == ""
        assert str(result.signal).endswith(f"from pid {result.signal.pid}")
    assert resources(kernel) == held and not kernel.processes.sched.group_exit


def test_a_child_that_never_ran_is_killed_all_the_same(kernel):
    """It would not come back from user mode, so the signal has to be seen on its first way there."""
    kernel.processes.sched.oracle = RunUntilBlock()
    result = end(kernel, KILLED_CHILD, SIGKILL)
    assert (result.exit_code, int.from_bytes(result.values["status"], "little")) == (0, SIGKILL)


def test_ignored_by_default(kernel):
    # it waits for ever after it
    with pytest.raises(emu.processes.StuckError, match=r"nothing can move: trap/\d+"):
        end(kernel, KILL, SIGCHLD)


def test_stopping_is_not_modelled(kernel):
    with pytest.raises(NotModelledError, match=r"trap/\d+: SIGTSTP from pid \d+: stopping a process is not modelled"):
        end(kernel, KILL, SIGTSTP)
    assert end(kernel, KILL).signal.signo == SIGTERM, "the kernel is as good as new"


def test_process_groups_are_not_modelled(kernel):
    with pytest.raises(NotModelledError, match=r"kill\(2\): pid -1: process groups are not modelled"):
        end(kernel, KILL, target=-1)


@pytest.mark.parametrize(("fault", "signo", "code"), [(VM_FAULT_SIGBUS, SIGBUS, 2), (VM_FAULT_SIGSEGV, SIGSEGV, 1)])
def test_what_a_fault_handler_answers_reaches_the_program(kernel, replaced, fault, signo, code):
    """As a file's does beyond its end: BUS_ADRERR, at the address that was used."""
    machine, refused = kernel.machine, []
    original = machine._kcalls[machine._names.index("__handle_mm_fault")]

    def refuse(vma, address, *rest):
        if address & 0xFFF == 3:
            refused.append(address)
            return fault
        return original(vma, address, *rest)

    replaced("__handle_mm_fault", refuse)
    result = end(kernel, CATCH)
    seen = [int.from_bytes(result.values["caught"][i:j], "little") for i, j in ((0, 4), (4, 8), (8, 16), (16, 24))]
    assert result.exit_code == 5 and result.dmesg == ""
    assert seen[:2] == [signo, code] and seen[2] == seen[3] + 4099 and refused == [seen[2]]
