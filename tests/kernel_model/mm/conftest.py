"""Small machines' memory for the tests of kernel_model/mm: 32 MiB of RAM, Linux's addresses, both architectures."""

import pytest

import arch as arches
from kernel_model.memory import GuestMemory
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmStruct

LAYOUTS = {name: (arches.get(name).pgtable, arches.get(name).layout) for name in ("x86_64", "arm64")}


@pytest.fixture(params=sorted(LAYOUTS))
def init_mm(request):
    pgtable, layout = LAYOUTS[request.param]
    memory = GuestMemory(32 << 20, base=layout.phys_base)
    return mem_init(memory, layout, pgtable, [(layout.kernel_phys, layout.kernel_phys + 0x10000, "kernel image")])


@pytest.fixture
def x86_mm():
    pgtable, layout = LAYOUTS["x86_64"]
    return mem_init(GuestMemory(32 << 20), layout, pgtable)


@pytest.fixture
def arm64_mm():
    pgtable, layout = LAYOUTS["arm64"]
    return mem_init(GuestMemory(32 << 20, base=layout.phys_base), layout, pgtable)


@pytest.fixture
def mm(init_mm):
    """An empty address space; `flushes` has the (start, end) that were flushed from the TLB."""
    mm = MmStruct(init_mm, GuestObjects(Slab(init_mm)), "test")
    mm.flushes = []
    mm.flush = lambda start, end: mm.flushes.append((start, end))
    return mm


@pytest.fixture
def faults(init_mm):
    return FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))


@pytest.fixture
def user(mm, faults):
    return UserSpace(mm, faults)
