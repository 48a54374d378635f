"""Small machines' memory for the tests of kernel_model/mm: 32 MiB of RAM, Linux's addresses, both architectures."""

import pytest

from arch.arm64.pgtable import PGTABLE as ARM64
from arch.interface import Layout
from arch.x86_64.pgtable import PGTABLE as X86
from kernel_model.memory import GuestMemory
from kernel_model.mm.init_mm import mem_init

LAYOUTS = {
    "x86_64": (
        X86,
        Layout(
            phys_base=0,
            page_offset=0xFFFF888000000000,
            vmalloc_start=0xFFFFC90000000000,
            vmalloc_end=0xFFFFE8FFFFFFFFFF,
            vmemmap=0xFFFFEA0000000000,
            kernel_text=0xFFFFFFFF81000000,
            kernel_phys=0x1000000,
            modules_start=0xFFFFFFFFC0000000,
            modules_end=0xFFFFFFFFFF000000,
            task_size=0x7FFFFFFFF000,
        ),
    ),
    "arm64": (
        ARM64,
        Layout(
            phys_base=0x40000000,
            page_offset=0xFFFF000000000000,
            vmalloc_start=0xFFFF800084000000,
            vmalloc_end=0xFFFFFDFFBFFF0000,
            vmemmap=0xFFFFFDFFC0000000,
            kernel_text=0xFFFF800080000000,
            kernel_phys=0x41000000,
            modules_start=0xFFFF80007C000000,
            modules_end=0xFFFF800080000000,
            task_size=1 << 48,
        ),
    ),
}


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
