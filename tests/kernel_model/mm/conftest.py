"""Small machines' memory for the tests of kernel_model/mm: 32 MiB of RAM, Linux's addresses, both architectures."""

import pytest

import arch as arches
from kernel_model.memory import GuestMemory
from kernel_model.mm.init_mm import mem_init

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
