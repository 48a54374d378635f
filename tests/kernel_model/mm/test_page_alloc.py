"""kernel_model/mm/page_alloc.py: every page comes back, none twice."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kernel_model.memory import GuestMemory
from kernel_model.mm.page_alloc import (
    PAGE_REFCOUNT,
    BadPageStateError,
    OutOfMemoryError,
    PageAllocator,
)

VMEMMAP = 0xFFFFEA0000000000


def allocator(pages=64, base=0x40000000):
    memory = GuestMemory(pages << 12, base)
    alloc = PageAllocator(memory, VMEMMAP, memory.end - 4096)
    alloc.reserve(memory.end - 4096, memory.end, "struct pages")
    return alloc


@pytest.fixture
def pages():
    return allocator()


def test_lowest_frame_first_and_reused(pages):
    first = pages.alloc_pages()
    second = pages.alloc_pages()
    assert (first, second) == (0x40000, 0x40001)
    pages.free_pages(first)
    assert pages.alloc_pages() == first


def test_runs_are_aligned_and_leave_holes_to_single_pages(pages):
    pages.alloc_pages()
    run = pages.alloc_pages(3)
    assert run == 0x40008
    assert pages.alloc_pages() == 0x40001


def test_struct_page_lies_at_vmemmap_with_its_count(pages):
    pfn = pages.alloc_pages()
    page = pages.pfn_to_page(pfn)
    assert page == VMEMMAP and pages.page_to_pfn(page) == pfn
    assert pages._memory.read_u32(pages._memory.end - 4096 + PAGE_REFCOUNT) == 1
    pages.get_page(pfn)
    assert pages.page_count(pfn) == 2
    assert not pages.put_page(pfn)
    assert pages.put_page(pfn)
    with pytest.raises(BadPageStateError, match="no struct page"):
        pages.page_to_pfn(page + 8)


def test_double_free_names_the_rule(pages):
    pfn = pages.alloc_pages()
    pages.free_pages(pfn)
    with pytest.raises(BadPageStateError, match=r"Bad page state: pfn:40000 .*page_ref_count\(page\) == 0"):
        pages.free_pages(pfn)


def test_reserved_tail_and_wrong_order_cannot_be_freed(pages):
    with pytest.raises(BadPageStateError, match="reserved page"):
        pages.free_pages(0x4003F)
    run = pages.alloc_pages(1)
    with pytest.raises(BadPageStateError, match="tail page"):
        pages.put_page(run + 1)
    with pytest.raises(BadPageStateError, match="order 0, allocated with order 1"):
        pages.free_pages(run)
    pages.free_pages(run, 1)


def test_a_mapped_page_cannot_be_freed(pages):
    pfn = pages.alloc_pages()
    pages.add_mapcount(pfn, 1)
    assert pages.page_mapped(pfn)
    with pytest.raises(BadPageStateError, match="nonzero mapcount"):
        pages.free_pages(pfn)


def test_count_scribbled_over_by_a_guest_is_found(pages):
    pfn = pages.alloc_pages()
    pages._memory.write_u32(pages._memory.end - 4096 + PAGE_REFCOUNT, 0)
    with pytest.raises(BadPageStateError, match="page_ref_count"):
        pages.put_page(pfn)


def test_memory_runs_out_and_owners_are_known(pages):
    before = pages.usage()
    held = [pages.alloc_pages(owner="arena") for _ in range(pages.nr_free)]
    with pytest.raises(OutOfMemoryError, match="order:0"):
        pages.alloc_pages()
    assert pages.leaks(before) == {"arena": 63}
    for pfn in held:
        pages.free_pages(pfn)
    assert pages.leaks(before) == {}
    assert pages.usage() == before


def test_zeroed_on_request(pages):
    pfn = pages.alloc_pages()
    pages._memory.fill(pfn << 12, 4096, 0xAA)
    pages.free_pages(pfn)
    assert pages.alloc_pages(zero=True) == pfn
    assert pages._memory.read(pfn << 12, 4096) == bytes(4096)


class AgainstADict(RuleBasedStateMachine):
    """Random allocations, references and frees: the allocator and a plain dict agree."""

    def __init__(self):
        super().__init__()
        self.pages = allocator(32)
        self.start = self.pages.nr_free
        self.held = {}  # pfn -> [order, references]

    @rule(order=st.integers(0, 3))
    def alloc(self, order):
        taken = {p + i for p, (o, _) in self.held.items() for i in range(1 << o)} | {0x4001F}
        candidates = [
            p
            for p in range(0x40000, 0x40020, 1 << order)
            if p + (1 << order) <= 0x40020 and not taken & set(range(p, p + (1 << order)))
        ]
        if not candidates:
            with pytest.raises(OutOfMemoryError):
                self.pages.alloc_pages(order)
            return
        pfn = self.pages.alloc_pages(order)
        assert pfn == candidates[0]
        self.held[pfn] = [order, 1]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def get(self, data):
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        self.pages.get_page(pfn)
        self.held[pfn][1] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def put(self, data):
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        order, references = self.held[pfn]
        self.pages.free_pages(pfn, order)
        if references == 1:
            del self.held[pfn]
            with pytest.raises(BadPageStateError):
                self.pages.put_page(pfn)
        else:
            self.held[pfn][1] -= 1

    @invariant()
    def counts_agree(self):
        assert self.pages.nr_free == self.start - sum(1 << order for order, _ in self.held.values())
        assert all(self.pages.page_count(pfn) == refs for pfn, (_, refs) in self.held.items())


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
