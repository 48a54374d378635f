"""kernel_model/mm/slab.py: kmalloc."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_model.mm.access import KernelSpace
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.slab import Slab, SlabError


@pytest.fixture
def slab(init_mm):
    return Slab(init_mm, poison=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 20000), min_size=1, max_size=40),
    order=st.randoms(use_true_random=False),
)
def test_objects_do_not_overlap_and_all_pages_come_back(init_mm, sizes, order):
    before = init_mm.pages.usage()
    slab = Slab(init_mm)
    objects = [(slab.kmalloc(size), size) for size in sizes]
    for (a, size), (b, _) in zip(sorted(objects), sorted(objects)[1:], strict=False):
        assert a + size <= b
    order.shuffle(objects)
    for addr, _ in objects:
        slab.kfree(addr)
    assert slab.live() == []
    assert init_mm.pages.usage() == before


@pytest.mark.parametrize("size", [8, 64, 256, 1024, 4096, 8192])
def test_powers_of_two_are_naturally_aligned(slab, size):
    assert all(slab.kmalloc(size) % size == 0 for _ in range(5))


def test_double_and_wild_frees_are_named(slab):
    addr, other = slab.kmalloc(64), slab.kmalloc(64)
    slab.kfree(addr)
    with pytest.raises(SlabError, match="BUG kmalloc-64: Object already free"):
        slab.kfree(addr)
    with pytest.raises(SlabError, match="Invalid object pointer"):
        slab.kfree(other + 8)
    with pytest.raises(SlabError, match="no kmalloc object"):
        slab.kfree(addr + 0x100000)
    slab.kfree(0)


def test_poison_and_zero(slab, init_mm):
    space = KernelSpace(init_mm)
    keep, addr = slab.kmalloc(64), slab.kmalloc(64)
    slab.kfree(addr)
    assert space.read(addr, 64) == b"\x6b" * 63 + b"\xa5"
    assert slab.kzalloc(50) == addr
    assert space.read(addr, 64) == bytes(64)
    assert [o.addr for o in slab.live()] == [keep, addr]


def test_too_large(slab):
    with pytest.raises(OutOfMemoryError):
        slab.kmalloc((4 << 20) + 1)
