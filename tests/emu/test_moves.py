"""mremap(), brk() and madvise() as system calls of a thread while another one faults next to what moves."""

import pytest

import emu
from emu.explore.oracles import RandomWalk
from kernel_model.mm import syscalls


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    run(booted)  # from now on the stacks of tasks are cached
    return booted


def run(kernel, rounds=2):
    variables = {"rounds": rounds.to_bytes(4, "little")}
    return kernel.run_user("moves", variables, read={"errors": 4, "finished": 4, "failed_line": 4})


def held(kernel):
    return kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms)


@pytest.mark.parametrize("seed", range(10))
def test_contents_move_along_and_nothing_leaks(kernel, seed):
    kernel.processes.sched.oracle = RandomWalk(seed)
    before = held(kernel)
    result = run(kernel)
    values = {name: int.from_bytes(value, "little") for name, value in result.values.items()}
    assert values == {"errors": 0, "finished": 2, "failed_line": 0}
    assert (result.exit_code, result.signal, result.dmesg) == (0, None, "")
    assert held(kernel) == before and not kernel.rcu.pending


@pytest.fixture
def locks(kernel, monkeypatch):
    """(name, how mmap_lock was held, whether the VMA's own lock was) of each call below a lock."""
    seen = []

    def state():
        lock = kernel.types.view("mm_struct", kernel.current_task().mm.addr).mmap_lock
        count = lock.count.counter
        return "write" if count & 1 else "read" if count >> 8 else ""

    def spy(name):
        real = getattr(syscalls, name)

        def hook(*arguments, **more):
            vma = arguments[0]
            refs = getattr(vma, "vm_end", 0) and kernel.types.view("vm_area_struct", vma.addr).vm_refcnt.counter
            seen.append((name, arguments[-1], state(), refs > 1))
            return real(*arguments, **more)

        monkeypatch.setattr(syscalls, name, hook)

    for name in ("madvise_do_behavior", "madvise_vma_behavior", "brk_steps", "mremap_steps", "mm_populate",
                 "clear_ptes"):  # fmt: skip
        spy(name)
    return seen


def test_each_call_holds_the_lock_that_linux_takes(kernel, locks):
    run(kernel, rounds=1)
    advice = {(name, behavior): (mode, vma) for name, behavior, mode, vma in locks if name.startswith("madvise")}
    for behavior in (10, 18, 1):  # DONTFORK, WIPEONFORK, RANDOM
        assert advice["madvise_do_behavior", behavior][0] == "write"
    for behavior in (22, 23):  # POPULATE_READ, POPULATE_WRITE
        assert advice["madvise_do_behavior", behavior][0] == "read"
    for behavior in (4, 8):  # DONTNEED, FREE: of one VMA
        mode, vma = advice["madvise_vma_behavior", behavior]
        assert vma
        assert advice.get(("madvise_do_behavior", behavior), ("read", 0))[0] == "read", "another thread had the VMA"
    modes = {(name, mode) for name, _, mode, _ in locks}
    assert {mode for name, mode in modes if name == "brk_steps"} == {"write"}
    assert {mode for name, mode in modes if name == "mremap_steps"} == {"write"}
    assert {mode for name, mode in modes if name == "mm_populate"} == {"read"}
    assert ("clear_ptes", "read") in modes, "munmap(), brk() and a shrinking mremap() downgrade first"
