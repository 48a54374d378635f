"""munmap() gives page tables back: those that serve nobody else, after TLBs were flushed."""

import pytest

from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE, do_mmap, do_munmap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.pgtable import PageTableTree
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmStruct

PAGE, PMD, PUD, PGD = 1 << 12, 1 << 21, 1 << 30, 1 << 39
RW = PROT_READ | PROT_WRITE
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
A = 5 * PGD  # below its entry of the root there is nothing else


class Space:
    """An mm; `events`: flushes, and how many tables were given back, in their order."""

    def __init__(self, init_mm):
        self.mm = MmStruct(init_mm, GuestObjects(Slab(init_mm)), "test")
        self.pages = init_mm.pages
        self.user = UserSpace(self.mm, FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True)))
        self.events = []
        self.mm.flush = lambda start, end: self.events.append(("flush", start, end))

    def map(self, at, length=PAGE):
        assert do_mmap(self.mm, at, length, RW, FIXED) == at

    def write(self, *addresses):
        for at in addresses:
            if self.mm.vma_lookup(at) is None:
                self.map(at)
            self.user.write(at, b"x")

    def unmap(self, at, length=PAGE):
        """How many tables that gave back."""
        before = len(self.mm.tree.tables)
        owned = self.pages.usage()["page tables of test"]
        assert do_munmap(self.mm, at, length) == 0
        gone = before - len(self.mm.tree.tables)
        assert owned - self.pages.usage()["page tables of test"] == gone
        return gone

    def read(self, *addresses):
        for at in addresses:
            assert self.user.read(at, 1) == b"x"


@pytest.fixture
def space(init_mm, monkeypatch):
    made = Space(init_mm)
    put = PageTableTree.put_tables

    def put_tables(tree, tables):
        made.events.append(("put", len(tables)))
        put(tree, tables)

    monkeypatch.setattr(PageTableTree, "put_tables", put_tables)
    return made


def test_a_lone_page_takes_its_three_tables_along(space):
    space.write(A)
    assert space.unmap(A) == 3
    assert space.events[-2:] == [("flush", A, A + PAGE), ("put", 3)], "no CPU walks them any more"
    assert space.mm.tree.entry_pa(A, 39) is not None and not space.mm.tree.walk(A).levels[0][1]
    space.write(A)
    space.read(A)


@pytest.mark.parametrize(
    ("neighbour", "freed"), [(PAGE, 0), (PMD, 1), (PUD, 2), (PGD, 3), (-PAGE, 3), (511 * PAGE, 0), (511 * PMD, 1)]
)
def test_neighbours_keep_what_they_share(space, neighbour, freed):
    """The same on both sides of the neighbour; what lies before A uses another entry of the root."""
    space.write(A, A + neighbour)
    assert space.unmap(A) == freed
    space.read(A + neighbour)
    space.write(A)
    assert space.unmap(A + neighbour) == freed
    space.read(A)
    assert space.unmap(A) == 3


def test_a_neighbour_without_tables_keeps_them_too(space):
    """free_pgd_range() asks where the next VMA begins, not whether it has been touched."""
    space.write(A)
    space.map(A + 3 * PAGE)
    assert space.unmap(A) == 0
    assert space.unmap(A + 3 * PAGE) == 3


def test_a_range_of_several_vmas_and_holes(space):
    places = (A, A + PMD, A + 2 * PMD + PAGE, A + 7 * PMD, A + PUD)
    space.write(*places)
    assert space.unmap(A, 3 * PMD) == 3
    space.read(*places[3:])
    assert space.unmap(A, 8 * PMD) == 2, "pte and pmd table of the first GiB: the pud table serves the second"
    assert space.unmap(A, 2 * PUD) == 3


def test_one_large_mapping_cut_from_either_end(space):
    space.map(A, 4 * PMD)
    space.write(*(A + i * PMD for i in range(4)))
    assert space.unmap(A, PMD + PAGE) == 1, "the second pte table serves the rest of its 2 MiB"
    assert space.unmap(A + 3 * PMD - PAGE, PMD + PAGE) == 1
    assert space.unmap(A + PMD + PAGE, PAGE) == 0
    space.read(A + 2 * PMD)
    assert space.unmap(A, 4 * PMD) == 4


def test_a_fixed_mapping_over_another_and_the_end_of_the_mm(space):
    before = space.pages.nr_free
    space.write(A, A + PMD)
    space.map(A + PMD, PAGE)
    assert len(space.mm.tree.tables) == 3, "the second pte table went with the VMA that was there"
    space.write(A + PMD)
    space.mm.exit_mmap()
    assert space.pages.nr_free == before + 2, "all that was taken since, the root, the mm's slab page"


def test_the_kernel_half_stays(space, init_mm):
    """The last user table goes; what is shared with the kernel is not touched."""
    kernel = init_mm.memory.read(space.mm.pgd + 2048, 2048)
    space.write(A, space.mm.task_size // PGD * PGD - PGD)
    assert space.unmap(A) + space.unmap(space.mm.task_size // PGD * PGD - PGD) == 6
    assert init_mm.memory.read(space.mm.pgd + 2048, 2048) == kernel
    assert not any(init_mm.memory.read(space.mm.pgd, 2048))
