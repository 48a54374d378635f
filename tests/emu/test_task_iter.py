"""The task_vma iterator runs: what programs see of the VMAs of the process that runs them, and copy from it."""

import pytest

import emu
from emu.kernel import IMAGES
from kernel_model.errors import KemuError

# v7.1's iterator needs the locks of single VMAs
HOLDING = ["v7.0", "series:kf-forbid-fault-v5"]


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def arch(request):
    return request.param


def ranges(loaded, count):
    starts, ends = loaded.read_longs("starts"), loaded.read_longs("ends")
    return list(zip(starts[:count], ends[:count], strict=True))


def words(loaded, *names):
    return [int.from_bytes(loaded.read(name), "little") for name in names]


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_a_program_sees_the_vmas_of_its_process_and_copies(arch, engine):
    kernel = emu.boot(arch=arch, profile="v7.0")
    loaded = kernel.load(IMAGES / "bpf" / "task_vma.bpf.o", engine)
    prog = loaded.prog("sleep_in_iter")
    first = kernel.run(prog)
    assert (first.error, first.retval, first.oops) == (0, 0, False)
    seen, copied, errors = words(loaded, "vmas_seen", "copied", "errors")
    found = ranges(loaded, seen)
    assert seen >= 3 and (copied, errors) == (0, 0)  # text, data, stack; no VMA holds address 0
    assert found == sorted(found) and all(start < end for start, end in found)
    loaded.write("vmas_seen", bytes(4))
    loaded.write("target", (found[-1][0]).to_bytes(8, "little"))  # the stack's lowest page: not present
    assert not kernel.run(prog).oops
    assert words(loaded, "vmas_seen", "copied", "errors") == [seen, 1, 0]


def test_the_releasing_program_runs_on_the_series_kernel(arch):
    kernel = emu.boot(arch=arch, profile="series:kf-forbid-fault-v5")
    loaded = kernel.load(IMAGES / "bpf" / "task_vma_release.bpf.o")
    assert kernel.run(loaded.prog("release_then_sleep")).error == 0
    seen = words(loaded, "vmas_seen")[0]
    assert seen >= 3
    loaded.write("vmas_seen", bytes(4))
    loaded.write("target", ranges(loaded, seen)[1][0].to_bytes(8, "little"))
    kernel.run(loaded.prog("release_then_sleep"))
    assert words(loaded, "vmas_seen", "copied", "errors") == [seen, 1, 0]


@pytest.mark.parametrize("profile", HOLDING)
def test_two_iterators_over_one_mm(arch, profile):
    kernel = emu.boot(arch=arch, profile=profile)
    loaded = kernel.load(IMAGES / "bpf" / "task_vma_nested.bpf.o")
    assert kernel.run(loaded.prog("nested_iterators")).error == 0
    outer, inner, different = words(loaded, "outer_seen", "inner_seen", "different")
    assert outer == inner >= 3 and not different


def test_other_kernels_refuse_the_releasing_program(arch):
    kernel = emu.boot(arch=arch, profile="v7.0")
    with pytest.raises(KemuError, match="verifier rejects program 'release_then_sleep'"):
        kernel.load(IMAGES / "bpf" / "task_vma_release.bpf.o")
