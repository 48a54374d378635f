"""Address spaces against dicts of pages: the system calls of mm, stores, loads, forks and exits in any order.

After every step: VMAs (where they begin and end, flags, offsets, so what was merged), every entry (which frame, what
it allows), every page's contents and references, the number of pages in use, and the holes of the tree.
"""

import os
import random
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import arch as arches
from arch.interface import Prot
from kernel_model.memory import GuestMemory
from kernel_model.mm import vma_tree
from kernel_model.mm.brk import do_brk
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.madvise import Madv, do_madvise
from kernel_model.mm.mm_types import VmFault
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    do_mmap,
    do_munmap,
    mm_get_unmapped_area,
)
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.mremap import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, do_mremap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.signals import SEGV_ACCERR, SEGV_MAPERR
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.mm.vma import MmStruct
from tests.kernel_model.mm.reference import (
    ACCESS,
    DONTCOPY,
    EINVAL,
    GROWSDOWN,
    GUARD,
    MAY,
    MAYSHARE,
    NORESERVE,
    SHARED,
    WIPEONFORK,
    WRITE,
    ZERO,
    Fault,
    File,
    Frame,
    Space,
    Vma,
    references,
)

PAGE = 4096
ORIGIN = 0x40000 - 4  # the first page that the rules choose; page tables of every level end inside the first window
HEAP = ORIGIN + 3  # where brk() begins, among what the rules map
TOP = ORIGIN + 288  # page of mmap_base: the search for room begins inside the pages that the rules choose
WINDOW = (ORIGIN - 512) * PAGE, 1024 * PAGE  # where entries are looked for: address, bytes
EVEN, ODD = 77, 4001  # offsets of the two bytes of a page
FILE_PAGES = 6
PROCESSES = 3

# Two windows of few pages, so that VMAs meet: what lies in the upper one is far enough from the first pages of the
# lower one for a stack to grow. A bare number picks one of the pages that are mapped.
free_places = st.sampled_from([ORIGIN + at for at in (*range(8), *range(8), *range(262, 270))])
places = free_places | st.integers(0, 29) | st.integers(0, 29)
counts = st.sampled_from([1, 1, 2, 2, 3, 4])
prots = st.sampled_from([3, 1, 3, 7, 3, 0, 5])
who = st.sampled_from([0, 0, 0, 1, 2])
KINDS = ["private"] * 5 + ["stack", "noreserve", "shared", "file", "shared file"]
WAYS = ["fixed"] * 6 + ["hint", "anywhere", "noreplace"]
HOWS = ["move", "fixed", "fixed", "keep", "stay"]
ADVICE = [
    Madv.NORMAL, Madv.RANDOM, Madv.WILLNEED, Madv.DONTNEED, Madv.FREE, Madv.DONTFORK, Madv.DOFORK, Madv.WIPEONFORK,
    Madv.KEEPONFORK, Madv.POPULATE_READ, Madv.POPULATE_WRITE,
]  # fmt: skip
SEQ_READ, RAND_READ = 0x8000, 0x10000
hows = st.sampled_from(HOWS)
kinds, ways = st.sampled_from(KINDS), st.sampled_from(WAYS)


class Cells:
    """A file in memory: its pages are there from the start, and it does not care how it is mapped."""

    has_map_pages = True
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


class AddressSpaces(RuleBasedStateMachine):
    """Up to three processes, each an mm and its dict of pages."""

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
        self.flushed = set()
        first.flush = self.flush
        self.born = 1
        for at, count in ((0, 3), (4, 2), (6, 1)):
            self.mmap(0, ORIGIN + at, count, 3, "private", "fixed", 0)
        self.store(0, ORIGIN, 1, 255)

    def flush(self, start, end):
        self.flushed.add((start, end))

    def pick(self, index, at=ORIGIN):
        """A process and the page that is meant by `at`."""
        mm, space = self.spaces[index % len(self.spaces)]
        if at < ORIGIN:
            at = sorted(space.pages)[at % len(space.pages)] if space.pages else ORIGIN + at % 8
        return mm, space, at

    # -- rules -------------------------------------------------------------------------------------------------------

    @rule(who=who, at=places, count=counts, prot=prots, kind=kinds, way=ways, pgoff=st.integers(0, FILE_PAGES - 1))
    def mmap(self, who, at, count, prot, kind, way, pgoff):
        mm, space, at = self.pick(who, at)
        flags = {"fixed": MAP_FIXED, "noreplace": MAP_FIXED_NOREPLACE}.get(way, 0)
        vma = Vma(prot | MAY)
        if "shared" in kind:
            flags |= MAP_SHARED
            vma.flags |= SHARED | MAYSHARE
        else:
            flags |= MAP_PRIVATE
        flags |= {"noreserve": MAP_NORESERVE, "stack": MAP_GROWSDOWN}.get(kind, 0)
        vma.flags |= {"noreserve": NORESERVE, "stack": GROWSDOWN}.get(kind, 0)
        file, first = None, None
        if "file" in kind:
            file, vma.file, first = self.cells, self.file, pgoff
            count = min(count, FILE_PAGES - pgoff)
        else:
            flags |= MAP_ANONYMOUS
            if kind == "shared":
                vma.file, first = object(), 0
        got = do_mmap(mm, 0 if way == "anywhere" else at * PAGE, count * PAGE, prot, flags, file, first or 0)
        hint = None if way == "anywhere" else at
        wanted = space.mmap(hint, count, vma, first, fixed=way == "fixed", noreplace=way == "noreplace")
        assert got == (wanted if wanted < 0 else wanted * PAGE)

    @rule(who=who, at=places, count=counts)
    def munmap(self, who, at, count):
        mm, space, at = self.pick(who, at)
        assert do_munmap(mm, at * PAGE, count * PAGE) == space.unmap(at, count)

    @rule(who=who, at=places, count=counts, prot=prots)
    def mprotect(self, who, at, count, prot):
        mm, space, at = self.pick(who, at)
        assert mm.run(do_mprotect(mm, at * PAGE, count * PAGE, prot)) == space.protect(at, count, prot)

    @rule(who=who, end=st.integers(HEAP - 1, HEAP + 6), odd=st.booleans())
    def brk(self, who, end, odd):
        """`odd`: not at a page's end, which counts as if it were."""
        mm, space, _ = self.pick(who)
        before, wanted = space.brk, space.move_brk(end)
        got = do_brk(mm, end * PAGE - (7 if odd and end > HEAP else 0))
        assert -(-got // PAGE) == wanted and wanted in (end, before)

    @rule(who=who, at=places, count=counts, more=st.sampled_from([-1, 0, 0, 1, 3]), how=hows, to=free_places)
    def mremap(self, who, at, count, more, how, to):
        mm, space, at = self.pick(who, at)
        vma = space.vma_at(at)
        new = max(count + (0 if vma is not None and isinstance(vma.file, File) else more), 0)
        flags = {"stay": 0, "fixed": MREMAP_FIXED | MREMAP_MAYMOVE, "keep": MREMAP_DONTUNMAP | MREMAP_MAYMOVE}.get(how)
        flags = MREMAP_MAYMOVE if flags is None else flags
        fixed, keep = how == "fixed", how == "keep"
        got = do_mremap(mm, at * PAGE, count * PAGE, new * PAGE, flags, to * PAGE)
        wanted = space.mremap(at, count, new, how != "stay", to if fixed else None, keep, to if keep else None)
        assert got == (wanted if wanted < 0 else wanted * PAGE)

    @rule(who=who, at=places, count=counts, advice=st.sampled_from(ADVICE))
    def madvise(self, who, at, count, advice):
        mm, space, at = self.pick(who, at)
        if not all(self.usable(space, page) for page in range(at, at + count)):
            return
        if advice in (Madv.POPULATE_READ, Madv.POPULATE_WRITE):
            wanted = space.populate(at, count, advice == Madv.POPULATE_WRITE, self.references)
        else:
            wanted = space.advise(at, count, partial(self.advise, space, advice))
        assert do_madvise(self.faults, mm, at * PAGE, count * PAGE, advice) == wanted

    @staticmethod
    def advise(space, advice, start, end, vma):
        """The same for the pages of one VMA."""
        if advice == Madv.DONTNEED:
            return space.drop(start, end)
        if advice == Madv.FREE:
            return -EINVAL if vma.file else 0
        if advice == Madv.WIPEONFORK and vma.file:
            return -EINVAL
        removed, added = {
            Madv.WILLNEED: (0, 0), Madv.NORMAL: (SEQ_READ | RAND_READ, 0), Madv.RANDOM: (SEQ_READ, RAND_READ),
            Madv.DONTFORK: (0, DONTCOPY), Madv.DOFORK: (DONTCOPY, 0), Madv.WIPEONFORK: (0, WIPEONFORK),
            Madv.KEEPONFORK: (WIPEONFORK, 0),
        }[advice]  # fmt: skip
        return space.set_flags(start, end, vma.flags & ~removed | added)

    def usable(self, space, at):
        """Not shared anonymous memory, behind which there may be no file here."""
        vma = space.vma_at(at)
        return vma is None or not vma.flags & SHARED or isinstance(vma.file, File)

    @rule(who=who, at=places, count=counts, byte=st.integers(1, 255))
    def store(self, who, at, count, byte):
        mm, space, at = self.pick(who, at)
        for page in range(at, at + count):
            if self.usable(space, page):
                self.access(mm, page, partial(space.store, page, byte, self.references()), bytes([byte]))

    @rule(who=who, at=places, count=counts)
    def load(self, who, at, count):
        mm, space, at = self.pick(who, at)
        for page in range(at, at + count):
            if self.usable(space, page):
                self.access(mm, page, partial(space.load, page), None)

    def references(self):
        return references([space for _, space in self.spaces])

    def access(self, mm, page, expected, data):
        """Load or store in a page: the same value or the same signal on both sides."""
        user, where = UserSpace(mm, self.faults), page * PAGE + (ODD if data and data[0] % 2 else EVEN)
        try:
            wanted, code = expected(), 0
        except Fault as fault:
            code = SEGV_ACCERR if fault.args[0] else SEGV_MAPERR
        try:
            got = user.read(where, 1)[0] if data is None else user.write(where, data)
            assert not code and got == wanted
        except UserAccessError as error:
            assert error.signal.code == code

    @precondition(lambda self: len(self.spaces) < PROCESSES)
    @rule(who=who)
    def fork(self, who):
        mm, space, _ = self.pick(who)
        self.spaces.append((mm.run(dup_mm(mm, f"p{self.born}")), space.fork()))
        self.born += 1

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(who=who)
    def exit(self, who):
        mm, _ = self.spaces.pop(who % len(self.spaces))
        mm.exit_mmap()

    @rule(seed=st.integers(0, 1 << 32))
    def many(self, seed):
        """Steps that are all equally probable, as those that a search for small examples tries first are not."""
        dice = random.Random(seed)
        for _ in range(30):
            self.step(dice)
            self.vmas_are_those_of_the_pages()
            self.entries_map_the_right_frames()
        self.every_table_serves_a_vma()

    def step(self, dice):
        who, count, prot = dice.choice([0, 0, 0, 1, 2]), dice.choice([1, 1, 2, 3]), dice.choice([3, 3, 3, 1, 7, 0])
        at = dice.randrange(30) if dice.random() < 0.5 else ORIGIN + dice.choice([*range(8), *range(8), 262, 264, 267])
        names = ["mmap", "munmap", "mprotect", "store", "load", "fork", "exit", "brk", "mremap", "madvise"]
        name = dice.choices(names, [4, 1, 5, 8, 2, 1, 1, 1, 4, 4])[0]
        if name == "mmap":
            kind, way = dice.choice(KINDS), dice.choice(WAYS)
            self.mmap(who, at, count, prot, kind, way, dice.randrange(FILE_PAGES))
        elif name == "mprotect":
            self.mprotect(who, at, count, prot)
        elif name == "store":
            self.store(who, at, count, dice.randrange(1, 256))
        elif name == "brk":
            self.brk(who, HEAP + dice.randrange(-1, 7), dice.random() < 0.5)
        elif name == "mremap":
            to = ORIGIN + dice.choice([*range(12), 262, 266])
            self.mremap(who, at, count, dice.choice([-1, 0, 0, 1, 3]), dice.choice(HOWS), to)
        elif name == "madvise":
            self.madvise(who, at, count, dice.choice(ADVICE))
        elif name in ("munmap", "load"):
            getattr(self, name)(who, at, count)
        elif name == "fork" and len(self.spaces) < PROCESSES:
            self.fork(who)
        elif name == "exit" and len(self.spaces) > 1:
            self.exit(who)

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


@pytest.fixture(autouse=True, scope="module")
def short_runs():
    before, vma_tree._RUN = vma_tree._RUN, 4
    yield
    vma_tree._RUN = before


def run(examples, steps, *, derandomize):
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        AddressSpaces,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=derandomize,
            database=None, report_multiple_bugs=False, suppress_health_check=checks,
        ),
    )  # fmt: skip


def test_address_spaces_are_their_pages():
    run(90, 30, derandomize=True)


@pytest.mark.long
def test_address_spaces_are_their_pages_for_long():
    """Other steps in every run; KEMU_EXAMPLES says how many."""
    run(int(os.environ.get("KEMU_EXAMPLES", "1500")), 80, derandomize=False)
