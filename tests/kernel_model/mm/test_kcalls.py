"""kernel_model/mm/kcalls.py: kernel names over guest pointers."""

import pytest

from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.kcalls import MmKcalls
from kernel_model.mm.mm_types import FAULT_FLAG_DEFAULT, FaultFlag, VmFault
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_PRIVATE, do_mmap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.pgtable import PMD_SHIFT
from kernel_model.mm.slab import Slab
from kernel_model.mm.vma import MmRegistry, MmStruct
from kernel_model.mm.vmalloc import Vmalloc


@pytest.fixture
def kernel(init_mm):
    slab, mms = Slab(init_mm), MmRegistry()
    mm = MmStruct(init_mm, GuestObjects(slab), "test")
    mms.add(mm)
    faults = FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))
    return MmKcalls(init_mm, slab, Vmalloc(init_mm), faults, mms), mm


def call(kernel, name, *args):
    """By kernel name, as boot binds them (two leading underscores are mangled inside a class)."""
    method = getattr(kernel[0], name, None) or getattr(kernel[0], f"_MmKcalls{name}")
    assert hasattr(method, "__kcall__")
    return method(*args)


def test_tables_for_a_kernel_address(kernel, init_mm):
    va = init_mm.layout.vmalloc_start + (3 << 30)
    pmd = init_mm.tree.ensure(va, PMD_SHIFT)
    assert call(kernel, "__pte_alloc_kernel", init_mm.phys_to_virt(pmd)) == 0
    entry = init_mm.memory.read_u64(pmd)
    assert init_mm.pgtable.present(entry)
    assert call(kernel, "__pte_alloc_kernel", init_mm.phys_to_virt(pmd)) == 0
    assert init_mm.memory.read_u64(pmd) == entry


def test_user_fault(kernel, init_mm):
    mm = kernel[1]
    va = do_mmap(mm, 0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS)
    vma = call(kernel, "mas_walk_vma", mm.addr, va + 5)
    assert vma == call(kernel, "find_vma", mm.addr, va - 5) != 0
    assert call(kernel, "mas_walk_vma", mm.addr, va + 4096) == call(kernel, "mas_walk_vma", mm.addr, va - 1) == 0
    flags = int(FAULT_FLAG_DEFAULT | FaultFlag.USER | FaultFlag.WRITE)
    assert mm.run(call(kernel, "__handle_mm_fault", vma, va, flags, 0)) == VmFault.NONE
    assert mm.tree.walk(va).pa is not None


def test_memory(kernel, init_mm):
    before = init_mm.pages.usage()
    big, small = call(kernel, "kvcalloc", 1 << 20, 8, 0), call(kernel, "kzalloc", 24, 0)
    assert big >= init_mm.layout.vmalloc_start and init_mm.virt_to_phys(small) is not None
    for addr in (big, small):
        call(kernel, "kvfree", addr)
    page = call(kernel, "alloc_pages", 0, 0)
    assert init_mm.pages.page_to_pfn(page) << 12 == init_mm.virt_to_phys(call(kernel, "page_address", page))
    call(kernel, "get_page", page)
    call(kernel, "put_page", page)
    call(kernel, "__free_page", page)
    assert set(init_mm.pages.leaks(before)) <= {"init_mm page tables"}
