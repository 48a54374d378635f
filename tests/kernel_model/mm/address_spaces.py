"""Address spaces that are compared with dicts of pages after every step of a test: test_stateful.py takes the steps."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

import arch as arches
from arch.interface import Prot
from kernel_model.memory import GuestMemory
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.mm_types import VmFault
from kernel_model.mm.mmap import mm_get_unmapped_area
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.slab import Slab
from kernel_model.mm.vma import MmStruct
from tests.kernel_model.mm.reference import ACCESS, GUARD, SHARED, WRITE, ZERO, File, Frame
from tests.kernel_model.mm.reference_calls import Space, references

PAGE = 4096
ORIGIN = 0x40000 - 4  # the first page that the rules choose; page tables of every level end inside the first window
HEAP = ORIGIN + 3  # where brk() begins, among what the rules map
TOP = ORIGIN + 288  # page of mmap_base: the search for room begins inside the pages that the rules choose
WINDOW = (ORIGIN - 512) * PAGE, 1024 * PAGE  # where entries are looked for: address, bytes
EVEN, ODD = 77, 4001  # offsets of the two bytes of a page
FILE_PAGES = 6


class Cells:
    """A file in memory: its pages are there from the start, and it does not care how it is mapped."""

    has_map_pages = False
    has_close = False

    def __init__(self, pages):
        self.pages = pages
        self.pfns = [pages.alloc_pages(owner="file", zero=True) for _ in range(FILE_PAGES)]

    def get_unmapped_area(self, mm, addr, length, pgoff, flags):
        return mm_get_unmapped_area(mm, addr, length, flags)

    def mmap(self, vma):
        vma.vm_ops = self
        return 0

    def open(self, vma):
        pass

    close = open

    def may_split(self, vma, addr):
        return 0

    def fault(self, vmf):
        vmf.page = self.pfns[vmf.pgoff]
        self.pages.get_page(vmf.page)
        return VmFault.NONE


class Checked(RuleBasedStateMachine):
    """Processes, each an mm and its dict of pages; rules are for subclasses to add."""

    @initialize(name=st.sampled_from(["x86_64", "arm64"]), limit=st.sampled_from([5, 11, 65530, 65530]))
    def boot(self, name, limit):
        arch = arches.get(name)
        self.init_mm = mem_init(GuestMemory(8 << 20, base=arch.layout.phys_base), arch.layout, arch.pgtable)
        self.pages, self.pgtable = self.init_mm.pages, self.init_mm.pgtable
        self.before = self.pages.usage()
        self.slab = Slab(self.init_mm)
        self.zero = self.pages.alloc_pages(owner="zero page", zero=True)
        self.faults = FaultHandler(self.zero)
        self.cells = Cells(self.pages)
        self.file = File([Frame(extra=1) for _ in range(FILE_PAGES)])
        first = MmStruct(self.init_mm, GuestObjects(self.slab), "p0")
        first.mmap_base, first.max_map_count = TOP * PAGE, limit
        first.start_heap(HEAP * PAGE)
        self.spaces = [(first, Space(TOP, limit, HEAP, HEAP))]
        self.flushed, self.cached = [], {}
        first.flush = lambda start, end: self.flushed.append((start, end))
        self.born = 1
        for at, count in ((0, 3), (4, 2), (6, 1)):
            self.mmap(0, ORIGIN + at, count, 3, "private", "fixed", 0)
        self.store(0, ORIGIN, 1, 255)

    def pick(self, index, at=ORIGIN):
        """A process and the page that is meant by `at`."""
        mm, space = self.spaces[index % len(self.spaces)]
        if at < ORIGIN:
            at = sorted(space.pages)[at % len(space.pages)] if space.pages else ORIGIN + at % 8
        return mm, space, at

    def references(self):
        return references([space for _, space in self.spaces])

    # -- what holds after each ---------------------------------------------------------------------------------------

    @invariant()
    def vmas_are_those_of_the_pages(self):
        for mm, space in getattr(self, "spaces", []):
            found = [(v.vm_start / PAGE, v.vm_end / PAGE, v.vm_flags) for v in mm.vmas()]
            runs = space.vmas()
            assert found == [(start, end, vma.flags) for start, end, vma in runs]
            assert mm.map_count == len(runs) == len(mm.by_addr)
            for vma, (start, _, wanted) in zip(mm.vmas(), runs, strict=True):
                assert vma.vm_pgoff == start + wanted.shift and mm.by_addr[vma.addr] is vma and vma.vm_mm is mm
                assert (vma.anon_vma is None) == (wanted.anon is None)
            by_anon = {}  # VMAs share memory's origin here where they do there
            for vma, (_, _, wanted) in zip(mm.vmas(), runs, strict=True):
                if wanted.anon is not None:
                    assert by_anon.setdefault(wanted.anon, vma.anon_vma) is vma.anon_vma
            assert len(set(map(id, by_anon.values()))) == len(by_anon)

    @invariant()
    def entries_map_the_right_frames(self):
        if not hasattr(self, "spaces"):
            return
        counts = self.references()
        pfns = {ZERO: self.zero} | dict(zip(self.file.frames, self.cells.pfns, strict=True))
        for mm, space in self.spaces:
            mapped = {at: page for at, page in space.pages.items() if page.frame is not None}
            entries = {va // PAGE: entry for va, entry in mm.tree.entries(*WINDOW)}
            assert entries.keys() == mapped.keys()
            for at, page in mapped.items():
                self.check_entry(entries[at], page, pfns, counts)
        assert len(set(pfns.values())) == len(pfns), "two frames, two pages"
        for frame, pfn in pfns.items():
            if frame is not ZERO:
                assert self.pages.page_count(pfn) == counts[frame] or frame.extra
                found = [self.init_mm.memory.read(pfn << 12 | at, 1)[0] for at in (EVEN, ODD)]
                assert found == [frame.even, frame.odd]
        anonymous = sum(n for owner, n in self.pages.usage().items() if owner.startswith("anonymous memory"))
        assert anonymous == sum(not frame.extra for frame in counts)

    @invariant()
    def every_table_serves_a_vma(self):
        """free_pgtables(): a table goes with the last VMA of its span."""
        for mm, _ in getattr(self, "spaces", []):
            tables = list(self.tables(mm.tree.root, 0, 39))
            assert sorted(pa for pa, _, _ in tables) == sorted(mm.tree.tables)
            for _, start, size in tables:
                assert mm.find_vma_intersection(start, start + size), f"{size:#x} bytes at {start:#x}"

    def tables(self, table, start, shift):
        """(physical address, first address, bytes) of all tables below the entries of the user half of `table`."""
        for i in range(256 if shift == 39 else 512):
            entry = self.init_mm.memory.read_u64(table + 8 * i)
            if self.pgtable.present(entry):
                below, first = self.pgtable.pa(entry), start + (i << shift)
                yield below, first, 1 << shift
                if shift > 21:
                    yield from self.tables(below, first, shift - 9)

    @invariant()
    def no_cpu_has_stale_translations(self):
        """Whatever a CPU may have cached before a step and is no longer allowed was flushed in it."""
        before, self.cached = getattr(self, "cached", {}), {}
        for mm, _ in getattr(self, "spaces", []):
            now = self.cached[mm] = dict(mm.tree.entries(*WINDOW))
            for va, entry in before.get(mm, {}).items():
                if self.pgtable.present(entry) and not self.allows(now.get(va, 0), entry):
                    assert any(start <= va < end for start, end in self.flushed), f"{va:#x}: {entry:#x}"
        self.flushed = []

    def allows(self, entry, cached):
        """Whether `entry` translates to the same page and allows at least what `cached` does."""
        same = self.pgtable.present(entry) and self.pgtable.pa(entry) == self.pgtable.pa(cached)
        return same and not self.pgtable.prot(cached) & ~self.pgtable.prot(entry)

    def check_entry(self, entry, page, pfns, counts):
        pfn = self.pgtable.pa(entry) >> 12
        assert pfns.setdefault(page.frame, pfn) == pfn
        assert self.pgtable.special(entry) == (page.frame is ZERO)
        if not page.vma.flags & ACCESS:
            assert self.pgtable.protnone(entry) and not self.pgtable.present(entry)
            return
        assert self.pgtable.present(entry)
        prot = self.pgtable.prot(entry)
        assert bool(prot & Prot.EXEC) == bool(page.vma.flags & 4) and prot & Prot.READ and prot & Prot.USER
        if prot & Prot.WRITE:
            assert page.vma.flags & WRITE
            assert page.vma.flags & SHARED or counts[page.frame] == 1 and not page.frame.extra

    @invariant()
    def holes_are_those_of_the_pages(self):
        for mm, space in getattr(self, "spaces", []):
            for count in (1, 7, 20):
                low, high, length, guard = (ORIGIN - 3) * PAGE, TOP * PAGE, count * PAGE, GUARD * PAGE
                for found, wanted in (
                    (mm.holes.highest_hole(low, high, length, guard), space.highest(ORIGIN - 3, TOP, count)),
                    (mm.holes.lowest_hole(low, high, length, guard), space.lowest(ORIGIN - 3, TOP, count)),
                ):
                    assert found == (None if wanted is None else wanted * PAGE)

    def teardown(self):
        if not hasattr(self, "spaces"):
            return
        for mm, _ in self.spaces:
            mm.exit_mmap()
        for pfn in self.cells.pfns:
            assert self.pages.page_count(pfn) == 1 and not self.pages.page_mapped(pfn)
            self.pages.free_pages(pfn)
        self.pages.free_pages(self.zero)
        assert self.slab.live() == []
        assert self.pages.usage() == self.before
