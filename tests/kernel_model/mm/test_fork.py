"""Address spaces that were forked: what is shared, what is copied, and who gets which page."""

import pytest

from arch.interface import PAGE_SIZE, Prot
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.mm_types import VM_DONTCOPY, VM_WIPEONFORK
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, do_mmap
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.mm.vma import MmStruct

RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS


class Family:
    """A parent with three pages of memory, two of them written."""

    def __init__(self, init_mm):
        self.init_mm = init_mm
        self.faults = FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))
        self.mm = MmStruct(init_mm, GuestObjects(Slab(init_mm)), "parent")
        self.flushes = []
        self.mm.flush = lambda start, end: self.flushes.append((start, end))
        self.at = do_mmap(self.mm, 0, 3 * PAGE_SIZE, RW, ANON)
        self.user = self.space(self.mm)
        self.user.write(self.at, b"one")
        self.user.write(self.at + PAGE_SIZE, b"two")
        self.user.read(self.at + 2 * PAGE_SIZE, 1)

    def space(self, mm):
        return UserSpace(mm, self.faults)

    def fork(self):
        return self.mm.run(dup_mm(self.mm, "child"))

    def pa(self, mm, page=0):
        return mm.tree.walk(self.at + page * PAGE_SIZE).pa


@pytest.fixture
def family(init_mm):
    return Family(init_mm)


def test_both_sides_share_pages_that_neither_may_write(family):
    child = family.fork()
    assert family.flushes[-1] == (0, family.mm.task_size)
    for page in range(2):
        assert family.pa(child, page) == family.pa(family.mm, page)
        for mm in (child, family.mm):
            assert not mm.tree.walk(family.at + page * PAGE_SIZE).prot & Prot.WRITE
        assert family.mm.pages.page_count(family.pa(child, page) >> 12) == 2
    assert family.pa(child, 2) == family.pa(family.mm, 2) == family.faults.zero_pfn << 12


def test_the_first_writer_copies_and_the_last_owner_keeps_the_page(family):
    child = family.fork()
    shared = family.pa(family.mm)
    family.space(child).write(family.at, b"ONE")
    assert family.pa(child) != shared and family.user.read(family.at, 3) == b"one"
    family.user.write(family.at, b"111")
    assert family.pa(family.mm) == shared, "nobody else has it any more: no copy"
    assert family.space(child).read(family.at, 3) == b"ONE"


def test_every_page_comes_back(family):
    free = family.init_mm.pages.nr_free
    child = family.fork()
    grandchild = child.run(dup_mm(child, "grandchild"))
    for number, mm in enumerate((grandchild, child)):
        family.space(mm).write(family.at + PAGE_SIZE, bytes([number]))
    child.exit_mmap()
    assert family.space(grandchild).read(family.at, 3) == b"one"
    grandchild.exit_mmap()
    assert family.init_mm.pages.nr_free == free
    assert family.user.read(family.at, PAGE_SIZE + 3)[-3:] == b"two"


def test_memory_that_shall_not_be_copied_or_is_wiped(family):
    vma = family.mm.vma_lookup(family.at)
    family.mm.set_flags(vma, vma.vm_flags | VM_WIPEONFORK)
    child = family.fork()
    assert family.space(child).read(family.at, 3) == bytes(3) and family.user.read(family.at, 3) == b"one"
    child.exit_mmap()
    family.mm.set_flags(vma, vma.vm_flags | VM_DONTCOPY)
    child = family.fork()
    assert not child.map_count
    with pytest.raises(UserAccessError):
        family.space(child).read(family.at, 1)


def test_pages_without_access_are_copied_too(family):
    """An entry of PROT_NONE still keeps its page; mprotect() does not make a shared page writable."""
    family.mm.run(do_mprotect(family.mm, family.at, PAGE_SIZE, 0))
    child = family.fork()
    for mm in (child, family.mm):
        assert mm.run(do_mprotect(mm, family.at, PAGE_SIZE, RW)) == 0
        assert not mm.tree.walk(family.at).prot & Prot.WRITE
    family.space(child).write(family.at, b"ONE")
    assert family.user.read(family.at, 3) == b"one"


def test_what_came_from_a_parent_is_not_merged_with_new_memory(family):
    """vma_is_fork_child(): the parent's VMA grows, the child's does not."""
    child = family.fork()
    for mm, vmas in ((family.mm, 1), (child, 2)):
        assert do_mmap(mm, family.at - PAGE_SIZE, PAGE_SIZE, RW, ANON) == family.at - PAGE_SIZE
        assert mm.map_count == vmas


def test_without_memory_nothing_is_left_of_the_child(family):
    pages = family.init_mm.pages
    hoard = []
    while pages.nr_free > 3:
        hoard.append(pages.alloc_pages(owner="hoard"))
    usage = pages.usage()
    with pytest.raises(OutOfMemoryError):
        family.fork()
    assert pages.usage() == usage
    family.user.write(family.at, b"111")
    assert family.user.read(family.at, 3) == b"111"
