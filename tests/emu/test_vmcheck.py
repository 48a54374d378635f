"""A program looks at its memory: on kemu it sees what it sees on a real kernel, on both architectures."""

from __future__ import annotations

import pytest

import emu
from kernel_model.mm import fault, fork, shmem
from kernel_model.mm.address_space import AddressSpace
from kernel_model.sched.signal import Signals


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def report(text):
    """name -> value of each line; none comes twice."""
    lines = [line.split(": ", 1) for line in text.splitlines()]
    found = dict(lines)
    assert len(found) == len(lines)
    return found


def test_the_real_kernel_agrees_with_the_program(run_native):
    native = run_native("vmcheck")
    assert (native.returncode, native.stderr) == (0, "")
    assert "should be" not in native.stdout and native.stdout.endswith("wrong: 0\n")


def test_memory_and_faults_are_as_on_a_real_kernel(kernel, run_native):
    kernel.run_user("vmcheck")  # from now on the stacks of tasks are cached
    free = kernel.init_mm.pages.nr_free
    result = kernel.run_user("vmcheck")
    assert (result.exit_code, result.signal, result.oops) == (0, None, False), result.output
    assert len(report(result.output)) == 182
    assert kernel.init_mm.pages.nr_free == free, "every page came back"
    assert result.output == run_native("vmcheck").stdout


def test_faults_without_a_handler_are_logged_as_before(kernel):
    lines = [line for line in kernel.run_user("vmcheck").dmesg.splitlines() if "segfault" in line]
    # two of the three that ended a child had no handler, the third was blocked; arm64 logs none
    assert len(lines) == (2 if kernel.arch.name == "x86_64" else 0)


def test_both_architectures_print_the_same():
    first, second = (emu.boot(arch=arch).run_user("vmcheck").output for arch in ("x86_64", "arm64"))
    assert first == second


# -- the program notices what is wrong --------------------------------------------------------------------------------


def wrong_lines(result):
    assert result.exit_code == 1
    return [line.split(":")[0] for line in result.output.splitlines() if "should be" in line]


def test_it_notices_a_dontneed_that_does_nothing(kernel, replaced):
    replaced("madvise_vma_behavior", lambda *_: 0)
    assert wrong_lines(kernel.run_user("vmcheck")) == ["after dontneed", "and the file is there", "wrong"]


def test_it_notices_a_dontneed_that_stops_at_a_hole(kernel, replaced):
    enomem = 12
    replaced("madvise_do_behavior", lambda *_: 2**64 - enomem)
    assert "which did both sides of it" in wrong_lines(kernel.run_user("vmcheck"))


def test_it_notices_pages_that_fork_shares(kernel, monkeypatch):
    monkeypatch.setattr(fork, "VM_MAYWRITE", 1 << 60)  # no mapping is one that writes copy
    assert "parent reads" in wrong_lines(kernel.run_user("vmcheck"))


def test_it_notices_a_wrong_address_and_a_wrong_code(kernel, replaced):
    signals = next(s for s in kernel._subsystems if isinstance(s, Signals))
    replaced("force_sig_fault", lambda sig, code, addr, *_: signals.force_sig_fault(sig, code, addr & ~1) or 0)
    assert wrong_lines(kernel.run_user("vmcheck"))[:2] == ["read of the hole", "write to read-only"]
    replaced("force_sig_fault", lambda sig, code, addr, *_: signals.force_sig_fault(sig, 1, addr) or 0)
    assert "write to read-only" in wrong_lines(kernel.run_user("vmcheck"))


SIGBUS, SIGSEGV = 7, 11


def test_it_notices_another_signal_behind_the_end_of_a_file(kernel, replaced):
    signals = next(s for s in kernel._subsystems if isinstance(s, Signals))

    def other(sig, code, addr, *_):
        signals.force_sig_fault(SIGSEGV if sig == SIGBUS else sig, code, addr)
        return 0

    replaced("force_sig_fault", other)
    wrong = wrong_lines(kernel.run_user("vmcheck"))
    assert wrong[0] == "read behind the end" and "after munmap" not in wrong
    assert {"read of the copy of it", "which is shorter now", "child that reads behind the end"} <= set(wrong)


def test_it_notices_a_truncation_that_leaves_copies_or_everything(kernel, monkeypatch):
    unmap = AddressSpace.unmap_mapping_range
    monkeypatch.setattr(AddressSpace, "unmap_mapping_range", lambda self, begin, even_cows: unmap(self, begin, False))
    assert wrong_lines(kernel.run_user("vmcheck"))[0] == "read of the copy of it"
    monkeypatch.setattr(AddressSpace, "unmap_mapping_range", lambda self, begin, even_cows: None)
    assert wrong_lines(kernel.run_user("vmcheck"))[0] == "read of what was cut off"


def test_it_notices_copies_that_are_none(kernel, monkeypatch):
    copy = fault.FaultHandler._copy_of

    def same(faults, mm, pfn):
        if pfn == faults.zero_pfn:
            return copy(faults, mm, pfn)
        mm.pages.get_page(pfn)
        return pfn

    monkeypatch.setattr(fault.FaultHandler, "_copy_of", same)
    wrong = wrong_lines(kernel.run_user("vmcheck"))
    assert "the file has none of it" in wrong and "write without a read before" in wrong and "parent reads" in wrong


def test_it_notices_a_mapping_that_reads_behind_the_end(kernel, monkeypatch):
    monkeypatch.setattr(shmem, "max_index", lambda file: 1 << 40)
    assert wrong_lines(kernel.run_user("vmcheck"))[0] == "read behind the end"
