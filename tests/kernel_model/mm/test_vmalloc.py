"""kernel_model/mm/vmalloc.py: areas, guards, sparse windows, stacks."""

import pytest

from arch.interface import Prot
from kernel_model.mm.vmalloc import THREAD_SIZE, VM_SPARSE, VM_USERMAP, Vmalloc, VmallocError

WINDOW = (4 << 30) + (64 << 10)


@pytest.fixture
def vm(init_mm):
    return Vmalloc(init_mm)


def test_areas_are_first_fit_with_a_guard_between(vm, init_mm):
    start = init_mm.layout.vmalloc_start
    a, b, c = (vm.vmalloc(5000) for _ in range(3))
    assert (a, b, c) == (start, start + 0x3000, start + 0x6000)
    assert init_mm.walk(a + 0x1FFF).pa is not None
    assert init_mm.walk(a + 0x2000).pa is None
    vm.vfree(b)
    assert vm.vmalloc(0x3000) == start + 0x9000
    assert vm.vmalloc(0x2000) == b


def test_vfree_gives_every_page_back(vm, init_mm):
    vm.vfree(vm.vmalloc(4096))  # the tables stay, as in Linux
    before = init_mm.pages.usage()
    va = vm.vmalloc(0x5000, "test")
    assert init_mm.pages.leaks(before) == {"test": 5}
    vm.vfree(va)
    assert init_mm.pages.usage() == before
    with pytest.raises(VmallocError, match="nonexistent vm area"):
        vm.vfree(va)
    vm.vfree(0)


def test_a_sparse_window_holds_pages_where_they_are_put(vm, init_mm):
    area = vm.get_vm_area(WINDOW, VM_SPARSE | VM_USERMAP, "arena")
    assert area.area_size == WINDOW and area.size == WINDOW + 4096
    pfn = init_mm.pages.alloc_pages()
    where = area.addr + (4 << 30)
    assert vm.vm_area_map_pages(area, where, where + 4096, [pfn]) == 0
    assert init_mm.walk(where).pa == pfn << 12
    assert vm.find_containing(where) is area
    assert vm.find_vm_area(where) is None
    end = area.addr + WINDOW
    assert vm.vm_area_map_pages(area, end, end + 4096, [pfn]) == -34
    assert vm.vm_area_map_pages(area, where, where + 8192, [pfn]) == -22
    assert vm.vm_area_unmap_pages(area, where, where + 4096) == [pfn]
    assert init_mm.walk(where).pa is None
    vm.free_vm_area(area)
    assert vm.areas() == []


def test_ordinary_areas_are_not_sparse(vm, init_mm):
    area = vm.find_vm_area(vm.vmalloc(4096))
    assert vm.vm_area_map_pages(area, area.addr, area.addr + 4096, [1]) == -22


def test_stacks_are_aligned_and_nothing_lies_below(vm, init_mm):
    for _ in range(3):
        stack = vm.alloc_thread_stack()
        assert stack % THREAD_SIZE == 0
        assert init_mm.walk(stack).pa is not None
        assert init_mm.walk(stack + THREAD_SIZE - 1).pa is not None
        assert init_mm.walk(stack - 1).pa is None
        assert init_mm.walk(stack + THREAD_SIZE).pa is None


def test_other_windows_and_permissions(vm, init_mm):
    layout = init_mm.layout
    va = vm.vmalloc(
        4096, start=layout.modules_start, end=layout.modules_end, prot=Prot.READ | Prot.EXEC
    )
    assert va == layout.modules_start
    assert init_mm.walk(va).prot == Prot.READ | Prot.EXEC


def test_full_space_says_so(vm, init_mm):
    start = init_mm.layout.vmalloc_start
    vm.get_vm_area(0x3000, 0, start=start, end=start + 0x5000)
    with pytest.raises(VmallocError, match="no room for"):
        vm.get_vm_area(0x1000, 0, start=start, end=start + 0x5000)
