"""Address spaces against dicts of pages: the system calls of mm, stores, loads, forks and exits in any order.

After every step: VMAs (where they begin and end, flags, offsets, so what was merged), every entry (which frame, what
it allows), every page's contents and references, the number of pages in use, the holes of the tree, page tables, and
that what CPUs may still have cached was flushed.
"""

import os
import random
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
    run_state_machine_as_test,
)

from kernel_model.mm import vma_tree
from kernel_model.mm.brk import do_brk
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.madvise import Madv, do_madvise
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
)
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.mremap import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, do_mremap
from kernel_model.mm.signals import SEGV_ACCERR, SEGV_MAPERR
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from tests.kernel_model.mm.address_spaces import EVEN, FILE_PAGES, HEAP, ODD, ORIGIN, PAGE, Checked
from tests.kernel_model.mm.reference import (
    DONTCOPY,
    EINVAL,
    GROWSDOWN,
    MAY,
    MAYSHARE,
    NORESERVE,
    SHARED,
    WIPEONFORK,
    File,
    Vma,
)
from tests.kernel_model.mm.reference_calls import Fault

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
PROCESSES = 3
ADVICE = [
    Madv.NORMAL, Madv.RANDOM, Madv.WILLNEED, Madv.DONTNEED, Madv.FREE, Madv.DONTFORK, Madv.DOFORK, Madv.WIPEONFORK,
    Madv.KEEPONFORK, Madv.POPULATE_READ, Madv.POPULATE_WRITE,
]  # fmt: skip
SEQ_READ, RAND_READ = 0x8000, 0x10000
hows = st.sampled_from(HOWS)
kinds, ways = st.sampled_from(KINDS), st.sampled_from(WAYS)


class AddressSpaces(Checked):
    """Up to three processes that do anything."""

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
            self.no_cpu_has_stale_translations()
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
    run(80, 30, derandomize=True)


@pytest.mark.long
def test_address_spaces_are_their_pages_for_long():
    """Other steps in every run; KEMU_EXAMPLES says how many."""
    run(int(os.environ.get("KEMU_EXAMPLES", "300")), 80, derandomize=False)
