"""madvise(), MAP_POPULATE and brk(): flags, pages, errors."""

import pytest

from arch.interface import Prot
from kernel_model.errors import NotModelledError
from kernel_model.mm.brk import do_brk
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.madvise import Madv, do_madvise
from kernel_model.mm.mm_types import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_IO,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    do_mmap,
)
from kernel_model.mm.populate import mm_populate
from kernel_model.mm.uaccess import UserSpace

RW, PAGE = PROT_READ | PROT_WRITE, 4096
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
A = 0x4000_0000
EAGAIN, ENOMEM, EFAULT, EINVAL = -11, -12, -14, -22


@pytest.fixture
def advise(mm, user):
    return lambda page, pages, behavior: do_madvise(user.faults, mm, A + page * PAGE, pages * PAGE, behavior)


def anon(mm, page, pages=1, prot=RW, flags=FIXED):
    assert do_mmap(mm, A + page * PAGE, pages * PAGE, prot, flags) == A + page * PAGE


def spans(mm, base=A):
    return [((vma.vm_start - base) // PAGE, (vma.vm_end - base) // PAGE) for vma in mm.vmas()]


# -- advice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advice", "flag", "undo"),
    [
        (Madv.RANDOM, VM_RAND_READ, Madv.NORMAL),
        (Madv.SEQUENTIAL, VM_SEQ_READ, Madv.NORMAL),
        (Madv.DONTFORK, VM_DONTCOPY, Madv.DOFORK),
        (Madv.WIPEONFORK, VM_WIPEONFORK, Madv.KEEPONFORK),
        (Madv.DONTDUMP, VM_DONTDUMP, Madv.DODUMP),
    ],
)
def test_flags_cut_a_mapping_and_join_it_again(mm, advise, advice, flag, undo):
    anon(mm, 0, 4)
    assert advise(1, 2, advice) == 0
    assert spans(mm) == [(0, 1), (1, 3), (3, 4)]
    assert [bool(vma.vm_flags & flag) for vma in mm.vmas()] == [False, True, False]
    assert advise(0, 4, advice) == 0 and spans(mm) == [(0, 4)]
    assert advise(0, 4, undo) == 0 and not mm.vma_lookup(A).vm_flags & flag


def test_random_and_sequential_exclude_each_other(mm, advise):
    anon(mm, 0)
    for advice, flag in ((Madv.RANDOM, VM_RAND_READ), (Madv.SEQUENTIAL, VM_SEQ_READ), (Madv.RANDOM, VM_RAND_READ)):
        assert advise(0, 1, advice) == 0
        assert mm.vma_lookup(A).vm_flags & (VM_RAND_READ | VM_SEQ_READ) == flag


def test_too_many_vmas_are_a_temporary_lack(mm, advise):
    anon(mm, 0, 4)
    mm.max_map_count = 2
    assert advise(1, 2, Madv.RANDOM) == EAGAIN
    assert spans(mm) == [(0, 1), (1, 4)], "the first cut was made"


def test_holes_are_passed_over_and_reported(mm, advise):
    anon(mm, 1)
    anon(mm, 3)
    assert advise(0, 5, Madv.RANDOM) == ENOMEM
    assert all(vma.vm_flags & VM_RAND_READ for vma in mm.vmas())
    assert advise(1, 1, Madv.NORMAL) == 0
    assert advise(4, 1, Madv.NORMAL) == ENOMEM and advise(9, 1, Madv.WILLNEED) == ENOMEM


def test_what_is_no_advice(mm, user, advise):
    anon(mm, 0)
    assert do_madvise(user.faults, mm, A + 1, PAGE, Madv.RANDOM) == EINVAL
    assert do_madvise(user.faults, mm, A, (1 << 64) - 1, Madv.RANDOM) == EINVAL
    assert advise(0, 0, Madv.RANDOM) == 0 and advise(0, 0, 7) == EINVAL
    for unknown in (5, 12, 14, 15, 25, 100, -1):  # KSM, huge pages and memory failures are not configured
        assert advise(0, 1, unknown) == EINVAL
    for missing in (Madv.REMOVE, Madv.PAGEOUT, Madv.GUARD_INSTALL, Madv.GUARD_REMOVE):
        with pytest.raises(NotModelledError, match=f"MADV_{missing.name}"):
            advise(0, 1, missing)


def test_advice_that_some_memory_refuses(mm, advise):
    anon(mm, 0, flags=MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    assert advise(0, 1, Madv.WIPEONFORK) == advise(0, 1, Madv.FREE) == EINVAL
    anon(mm, 2)
    vma = mm.vma_lookup(A + 2 * PAGE)
    for flags, advice in ((VM_IO, Madv.DOFORK), (VM_DONTEXPAND, Madv.DODUMP), (VM_PFNMAP, Madv.DONTNEED),
                          (VM_PFNMAP, Madv.COLD), (VM_PFNMAP, Madv.FREE)):  # fmt: skip
        mm.set_flags(vma, vma.vm_flags | flags)
        assert advise(2, 1, advice) == EINVAL
        mm.set_flags(vma, vma.vm_flags & ~flags)
        assert advise(2, 1, advice) == 0


def test_dropping_and_freeing(mm, user, advise, init_mm):
    anon(mm, 0, 2)
    user.write(A, b"x")
    user.write(A + PAGE, b"y")
    free = init_mm.pages.nr_free
    mm.flushes.clear()
    assert advise(0, 2, Madv.FREE) == 0
    assert mm.flushes == [(A, A + 2 * PAGE)] and init_mm.pages.nr_free == free, "until memory is short"
    assert user.read(A, 1) == b"x"
    assert advise(0, 1, Madv.DONTNEED) == 0 and advise(1, 1, Madv.DONTNEED_LOCKED) == 0
    assert init_mm.pages.nr_free == free + 2
    assert user.read(A, 1) == user.read(A + PAGE, 1) == b"\0"


def test_what_a_child_gets(mm, user, advise):
    anon(mm, 0, 3)
    for page in range(3):
        user.write(A + page * PAGE, b"x")
    advise(1, 1, Madv.WIPEONFORK)
    advise(2, 1, Madv.DONTFORK)
    do_brk_start(mm)
    child = mm.run(dup_mm(mm, "child"))
    space = UserSpace(child, user.faults)
    assert (space.read(A, 1), space.read(A + PAGE, 1)) == (b"x", b"\0")
    assert spans(child)[:2] == [(0, 1), (1, 2)] and child.vma_lookup(A + 2 * PAGE) is None
    assert (child.start_brk, child.brk) == (mm.start_brk, mm.brk)


# -- populating ------------------------------------------------------------------------------------------------------


def present(mm, page):
    return mm.tree.walk(A + page * PAGE).prot & (Prot.READ | Prot.WRITE)


def test_populate_read_and_write(mm, user, advise):
    anon(mm, 0, 3)
    assert advise(0, 2, Madv.POPULATE_READ) == 0
    assert [present(mm, page) for page in range(3)] == [Prot.READ, Prot.READ, Prot(0)]
    assert mm.tree.walk(A).pa == user.faults.zero_pfn << 12
    assert advise(0, 1, Madv.POPULATE_WRITE) == 0 and present(mm, 0) == Prot.READ | Prot.WRITE
    faults = mm.counters.minor
    assert advise(0, 2, Madv.POPULATE_READ) == 0 and mm.counters.minor == faults, "nothing is missing"


def test_populate_stops_at_the_first_error(mm, advise):
    anon(mm, 0, 2)
    anon(mm, 2, 1, PROT_READ)
    anon(mm, 3, 1, PROT_WRITE)
    assert advise(1, 3, Madv.POPULATE_WRITE) == EINVAL and present(mm, 1) == Prot.READ | Prot.WRITE
    assert advise(2, 2, Madv.POPULATE_READ) == EINVAL and present(mm, 2), "what cannot be read"
    assert advise(4, 1, Madv.POPULATE_READ) == advise(3, 2, Madv.POPULATE_WRITE) == ENOMEM
    assert present(mm, 3)


def test_populate_without_memory(mm, advise, init_mm):
    anon(mm, 0, 2)
    hoard = []
    while init_mm.pages.nr_free > 4:
        hoard.append(init_mm.pages.alloc_pages())
    assert advise(0, 2, Madv.POPULATE_WRITE) == ENOMEM
    assert present(mm, 0) and not present(mm, 1), "three tables, one page"


def test_map_populate_takes_what_it_can_get(mm, user):
    """mm_populate(): errors end a VMA, not the whole; what may be written is written to."""
    anon(mm, 0)
    anon(mm, 1, 1, 0)
    anon(mm, 3, 1, PROT_READ)
    anon(mm, 4, 1, PROT_EXEC)
    mm.run(mm_populate(user.faults, mm, A, 6 * PAGE))
    assert [present(mm, page) for page in range(5)] == [
        Prot.READ | Prot.WRITE, Prot(0), Prot(0), Prot.READ, Prot.READ,
    ]  # fmt: skip


# -- the heap --------------------------------------------------------------------------------------------------------


def do_brk_start(mm, start=A + 0x1000_0000):
    mm.start_heap(start)
    assert do_brk(mm, start + 3 * PAGE - 1) == start + 3 * PAGE - 1
    return start


def test_the_heap_grows_and_shrinks(mm, user, init_mm):
    start = do_brk_start(mm)
    assert spans(mm, start) == [(0, 3)]
    user.write(start + 2 * PAGE, b"x")
    free = init_mm.pages.nr_free
    assert do_brk(mm, start + 2 * PAGE) == start + 2 * PAGE and init_mm.pages.nr_free == free + 1
    assert do_brk(mm, start + 2 * PAGE + 1) == start + 2 * PAGE + 1
    assert user.read(start + 2 * PAGE, 1) == b"\0" and spans(mm, start) == [(0, 3)]
    assert do_brk(mm, start) == start and mm.map_count == 0 and not mm.tree.tables
    assert do_brk(mm, start - 1) == start and do_brk(mm, 0) == start, "never below its beginning"


def test_what_stands_in_the_way_of_the_heap(mm):
    start = do_brk_start(mm)
    page = (start - A) // PAGE
    anon(mm, page + 8)
    assert do_brk(mm, start + 8 * PAGE) == mm.brk == start + 3 * PAGE - 1, "a page stays free in between"
    assert do_brk(mm, start + 7 * PAGE) == start + 7 * PAGE
    assert do_brk(mm, mm.task_size + PAGE) == start + 7 * PAGE
    anon(mm, page + 300, flags=FIXED | MAP_GROWSDOWN)
    anon(mm, page + 7, prot=PROT_READ)
    assert do_brk(mm, start + 8 * PAGE) == start + 7 * PAGE
    mm.run(mm.close_vma(_take(mm, start + 7 * PAGE)))
    mm.run(mm.close_vma(_take(mm, start + 8 * PAGE)))
    assert do_brk(mm, start + 44 * PAGE) == start + 7 * PAGE, "the gap of a stack"
    assert do_brk(mm, start + 43 * PAGE) == start + 43 * PAGE


def _take(mm, at):
    vma = mm.vma_lookup(at)
    mm.unlink_vma(vma)
    return vma


def test_the_heap_only_joins_itself(mm):
    """just_expand; and not with what lies below its beginning (vma_prev_limit())."""
    start = A + 0x1000_0000
    page = (start - A) // PAGE
    anon(mm, page - 1)
    mm.start_heap(start)
    assert do_brk(mm, start + PAGE) == start + PAGE
    assert spans(mm, start) == [(-1, 0), (0, 1)]
    assert do_brk(mm, start + 2 * PAGE) == start + 2 * PAGE and spans(mm, start)[1] == (0, 2)
    mm.max_map_count = 1
    assert do_brk(mm, start + 3 * PAGE) == start + 2 * PAGE
