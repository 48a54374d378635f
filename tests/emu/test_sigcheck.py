"""A program looks at its signals: on kemu it sees what it sees on a real kernel, on both architectures."""

from __future__ import annotations

import pytest

import emu
from emu.explore.oracles import RandomWalk
from kernel_model.sched.sighand import SigPending


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    booted.run_user("sigcheck")  # from now on the stacks of tasks are cached
    return booted


def common(text):
    """The lines that are not one architecture's alone."""
    return [line for line in text.splitlines() if not line.startswith(("x86 ", "arm64 "))]


def resources(kernel):
    return kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms), len(kernel.tasks.by_address)


def test_the_real_kernel_agrees_with_the_program(run_native):
    native = run_native("sigcheck")
    assert (native.returncode, native.stderr) == (0, "")
    assert "should be" not in native.stdout and native.stdout.endswith("wrong: 0\n")


def test_signals_are_as_on_a_real_kernel(kernel, run_native):
    held = resources(kernel)
    result = kernel.run_user("sigcheck")
    assert (result.exit_code, result.signal, result.oops) == (0, None, False), result.output
    assert resources(kernel) == held
    assert len(common(result.output)) == 115
    native = run_native("sigcheck").stdout
    assert common(result.output) == common(native)
    if kernel.arch.name == "x86_64":
        assert result.output == native


@pytest.mark.parametrize("seed", range(6))
def test_any_schedule_prints_the_same(kernel, seed):
    sched = kernel.processes.sched
    sched.oracle, before = RandomWalk(seed), len(sched.history.decisions)
    result = kernel.run_user("sigcheck")
    assert result.exit_code == 0, result.output
    assert len(sched.history.decisions) > before
    assert not sched.group_exit and not sched.run_list


def test_a_frame_that_is_none_is_logged_on_x86(kernel):
    lines = [line for line in kernel.run_user("sigcheck").dmesg.splitlines() if "bad frame in rt_sigreturn" in line]
    assert len(lines) == (1 if kernel.arch.name == "x86_64" else 0)


def test_it_notices_a_queue_in_the_wrong_order(kernel, monkeypatch):
    def oldest(self, blocked):
        return self.queue.pop(0) if self.queue and not 1 << self.queue[0].signo - 1 & blocked else None

    monkeypatch.setattr(SigPending, "next", oldest)
    result = kernel.run_user("sigcheck")
    assert result.exit_code == 1
    assert "the last frame first: 1210" not in result.output


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("program", ["sigcheck", "vmcheck", "sigthreads", "vmstress"])
def test_lockdep_has_nothing_to_say(arch, program):
    kernel = emu.boot(arch=arch, lockdep=True)
    kernel.processes.sched.oracle = RandomWalk(1)
    result = kernel.run_user(program)
    said = [line for line in result.dmesg.splitlines() if "segfault" not in line and not line.startswith("Code: ")]
    assert result.exit_code == 0 and kernel.lockdep.prove_locking
    assert [line for line in said if "bad frame in rt_sigreturn" not in line and not line.startswith("traps: ")] == []
