"""kernel_model/mm/access.py: kernel addresses from Python."""

import pytest

from arch.interface import Prot
from kernel_model.mm.access import GuestAddressError, KernelSpace

RW = Prot.READ | Prot.WRITE


@pytest.fixture
def space(init_mm):
    return KernelSpace(init_mm)


def test_direct_map_and_mapped_addresses_are_the_same_memory(init_mm, space):
    va = init_mm.layout.vmalloc_start
    pfns = [init_mm.pages.alloc_pages(zero=True), init_mm.pages.alloc_pages(zero=True)]
    init_mm.map_kernel_range(va, pfns[::-1], RW)
    space.write(va + 4090, b"across pages")
    assert space.read(va + 4090, 12) == b"across pages"
    assert space.read(init_mm.phys_to_virt(pfns[1] << 12) + 4090, 6) == b"across"
    assert space.read(init_mm.phys_to_virt(pfns[0] << 12), 6) == b" pages"
    assert space.read_cstr(va + 4090) == b"across pages"
    assert space.read_cstr(va + 4090, 3) == b"acr"


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_words(init_mm, space, width):
    va = init_mm.layout.vmalloc_start
    init_mm.map_kernel_range(va, [init_mm.pages.alloc_pages(zero=True)], RW)
    for where in (va + 8, va + 17):
        getattr(space, f"write_u{width}")(where, -2)
        assert getattr(space, f"read_u{width}")(where) == (1 << width) - 2


def test_unmapped_addresses_raise_and_store_nothing(init_mm, space):
    va = init_mm.layout.vmalloc_start
    init_mm.map_kernel_range(va, [init_mm.pages.alloc_pages(zero=True)], RW)
    with pytest.raises(GuestAddressError) as caught:
        space.write(va + 4092, b"too long")
    assert caught.value.address == va + 4096
    assert space.read(va + 4092, 4) == bytes(4)
    for bad in (0, 0x1000, va + 4096, 0xDEAD000000000100):
        with pytest.raises(GuestAddressError, match="not mapped"):
            space.read_u64(bad)


def test_fill_crosses_pages(init_mm, space):
    va = init_mm.layout.vmalloc_start
    init_mm.map_kernel_range(va, [init_mm.pages.alloc_pages(zero=True) for _ in range(3)], RW)
    space.fill(va + 1, 3 * 4096 - 2, 0x11)
    assert space.read(va, 3 * 4096) == b"\0" + b"\x11" * (3 * 4096 - 2) + b"\0"


def test_the_kernel_image_is_linear_until_it_is_unmapped(init_mm, space):
    layout = init_mm.layout
    init_mm.map_image(layout.kernel_text, layout.kernel_phys, 0x2000, Prot.READ | Prot.EXEC)
    init_mm.memory.write(layout.kernel_phys + 0xFF8, b"one text, two pages\0")
    assert space.translate(layout.kernel_text + 0x1234) == layout.kernel_phys + 0x1234
    assert space.read_cstr(layout.kernel_text + 0xFF8) == b"one text, two pages"
    init_mm.unmap_kernel_range(layout.kernel_text + 0x1000, 0x1000)
    assert space.read(layout.kernel_text + 0xFF8, 8) == b"one text"
    with pytest.raises(GuestAddressError):
        space.read_cstr(layout.kernel_text + 0xFF8)
