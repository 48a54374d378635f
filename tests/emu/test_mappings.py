"""Threads that change an address space while others fault in it, under schedules that an oracle chooses."""

import pytest

import emu
from emu.explore.oracles import RandomWalk
from kernel_model.mm import syscalls
from kernel_model.sched.requests import GuestCall


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    run(booted)  # from now on the stacks of threads are cached
    return booted


def run(kernel):
    return kernel.run_user("mappings", read={"errors": 4, "finished": 4})


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_and_nothing_leaks(kernel, seed):
    kernel.processes.sched.oracle = RandomWalk(seed)
    free, live = kernel.init_mm.pages.nr_free, len(kernel.slab.live())
    result = run(kernel)
    assert (result.exit_code, result.signal, result.dmesg) == (0, None, "")
    assert result.values == {"errors": bytes(4), "finished": b"\2\0\0\0"}
    assert kernel.init_mm.pages.nr_free == free
    assert len(kernel.slab.live()) == live
    assert not kernel.rcu.pending


def test_writers_announce_themselves_and_the_struct_knows_its_vmas(kernel):
    """vma_start_write() for every VMA that changes, vma_mark_detached() for every one that goes."""
    started = kernel.exec("mappings")
    mm, asked, counts = started[0].mm, [], []

    def spy(name, real):
        def hook(vma):
            for request in real(vma):
                assert isinstance(request, GuestCall) and request.arguments == (vma.addr,)
                asked.append(name)
                view = kernel.types.view("mm_struct", mm.addr)
                counts.append(view.map_count == mm.map_count and view.mm_lock_seq & 1)
                yield request

        return hook

    for name in ("start_write", "detach"):
        setattr(mm, name, spy(name, getattr(mm, name)))
    kernel.run_user("mappings", {"rounds": (1).to_bytes(4, "little")}, started=started)
    assert all(counts) and len(counts) > 10
    assert asked.count("detach") >= 3 and asked.count("start_write") > asked.count("detach")


def test_munmap_frees_pages_under_the_read_lock(kernel, monkeypatch):
    """vms_complete_munmap_vmas(): mmap_write_downgrade() first, which makes the sequence number even."""
    seen = []
    real = syscalls.clear_ptes

    def clear_ptes(mm, gathered):
        seq = kernel.types.view("mm_struct", mm.addr).mm_lock_seq
        seen.append((seq & 1, any(mm.find_vma_intersection(v.vm_start, v.vm_end) for v in gathered)))
        yield from real(mm, gathered)

    monkeypatch.setattr(syscalls, "clear_ptes", clear_ptes)
    run(kernel)
    assert len(seen) == 5 and set(seen) == {(0, False)}
