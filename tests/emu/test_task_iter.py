"""bpf_iter_task_vma: how long each kernel's iterator holds mmap_lock, and what it gives."""

import pytest

import emu

READER, ITER = 0x100, 0x40


@pytest.fixture(params=["x86_64", "arm64"])
def iterate(request):
    """iterate(profile) -> the states of mmap_lock after _new, the first _next, _release, the next _next and _destroy,
    and the starts of the two VMAs."""

    def run(profile, release=True):
        kernel = emu.boot(request.param, profile)
        task, _ = kernel.exec("touch")
        it, call = kernel.slab.kzalloc(ITER), kernel.machine.call
        count = kernel.types.view("mm_struct", task.mm.addr).mmap_lock.count
        states, starts = [], []

        def step(name, *args):
            result = call(f"bpf_iter_task_vma_{name}", it, *args)
            states.append(count.counter)
            return result

        assert step("new", task.address, 0) == 0
        starts.append(kernel.types.view("vm_area_struct", step("next")).vm_start)
        if release:
            step("release")
        starts.append(kernel.types.view("vm_area_struct", step("next")).vm_start)
        step("destroy")
        assert starts == sorted(vma.vm_start for vma in task.mm.vmas())[:2]
        return states

    return run


def test_mmap_lock_is_held_from_new_to_destroy(iterate):
    assert iterate("v7.0", release=False) == [READER, READER, READER, 0]


def test_the_series_takes_it_in_next_and_drops_it_in_release(iterate):
    assert iterate("series:kf-forbid-fault-v5") == [0, READER, 0, READER, 0]


@pytest.mark.parametrize("profile", ["v6.18", "v7.1", "v7.2"])
def test_the_snapshot_holds_nothing(iterate, profile):
    assert iterate(profile, release=False) == [0, 0, 0, 0]


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_vma_that_is_write_locked_is_passed_over(arch):
    kernel = emu.boot(arch, "v7.1")
    task, _ = kernel.exec("touch")
    it, call, mm = kernel.slab.kzalloc(ITER), kernel.machine.call, task.mm
    first, second = sorted(mm.vmas(), key=lambda vma: vma.vm_start)[:2]
    call("mmap_write_lock", mm.addr)
    call("vma_start_write", first.addr)
    assert call("bpf_iter_task_vma_new", it, task.address, 0) == 0
    assert kernel.types.view("vm_area_struct", call("bpf_iter_task_vma_next", it)).vm_start == second.vm_start
    call("bpf_iter_task_vma_destroy", it)
    call("mmap_write_unlock", mm.addr)
    assert call("bpf_iter_task_vma_new", it, task.address, 0) == 0
    assert kernel.types.view("vm_area_struct", call("bpf_iter_task_vma_next", it)).vm_start == first.vm_start


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_writer_refuses_the_iterator_that_needs_mmap_lock(arch):
    kernel = emu.boot(arch, "v7.0")
    task, _ = kernel.exec("touch")
    kernel.machine.call("mmap_write_lock", task.mm.addr)
    result = kernel.machine.call("bpf_iter_task_vma_new", kernel.slab.kzalloc(ITER), task.address, 0)
    assert result & 0xFFFF_FFFF == -16 & 0xFFFF_FFFF, "-EBUSY"
