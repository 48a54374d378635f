"""mremap(): what moves, what is locked and flushed, and what is refused."""

import pytest

from kernel_model.mm.mm_types import VM_DONTEXPAND, VmFault
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    do_mmap,
    mm_get_unmapped_area,
)
from kernel_model.mm.mremap import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, do_mremap, mremap_steps
from kernel_model.mm.uaccess import UserAccessError
from kernel_model.sched.requests import GuestCall

RW, PAGE, PMD = PROT_READ | PROT_WRITE, 4096, 1 << 21
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
TO, MOVE, KEEP = MREMAP_FIXED | MREMAP_MAYMOVE, MREMAP_MAYMOVE, MREMAP_DONTUNMAP | MREMAP_MAYMOVE
A, B = 0x4000_0000, 0x8000_0000
ENOMEM, EFAULT, EINVAL = -12, -14, -22


def anon(mm, at, pages=1, prot=RW):
    assert do_mmap(mm, at, pages * PAGE, prot, FIXED) == at


def spans(mm):
    return [(vma.vm_start, (vma.vm_end - vma.vm_start) // PAGE) for vma in mm.vmas()]


class File:
    """A file with one page for all of its contents, whose mappings cannot move where `refused`."""

    has_map_pages, has_close = False, True

    def __init__(self, pages, refused=0, flags=0):
        self.pages, self.pfn, self.flags = pages, pages.alloc_pages(owner="file", zero=True), flags
        self.refused, self.log = refused, []

    def get_unmapped_area(self, mm, addr, length, pgoff, flags):
        return mm_get_unmapped_area(mm, addr, length, flags)

    def mmap(self, vma):
        vma.vm_ops, vma.vm_flags = self, vma.vm_flags | self.flags
        return 0

    def open(self, vma):
        self.log.append(("open", vma.vm_start))

    def close(self, vma):
        self.log.append(("close", vma.vm_start))

    def may_split(self, vma, addr):
        return EINVAL

    def mremap(self, vma):
        return self.refused

    def fault(self, vmf):
        self.pages.get_page(self.pfn)
        vmf.page = self.pfn
        return VmFault.NONE


# -- moving ----------------------------------------------------------------------------------------------------------


def test_entries_move_and_pages_stay(mm, user, init_mm):
    anon(mm, A, 3)
    user.write(A, b"one")
    user.write(A + PAGE, b"two")
    frames = [mm.tree.walk(A + i * PAGE).pa for i in range(2)]
    free = init_mm.pages.nr_free
    mm.flushes.clear()
    assert do_mremap(mm, A, 3 * PAGE, 3 * PAGE, TO, B) == B
    assert [mm.tree.walk(B + i * PAGE).pa for i in range(3)] == [*frames, None]
    assert mm.flushes[0] == (A, A + 3 * PAGE) and spans(mm) == [(B, 3)]
    assert init_mm.pages.nr_free == free, "the tables of the old place went, as many came at the new one"
    assert init_mm.pages.page_count(frames[0] >> 12) == 1
    assert user.read(B, 3) + user.read(B + PAGE, 3) == b"onetwo"
    with pytest.raises(UserAccessError):
        user.read(A, 1)


def test_aligned_spans_take_their_table_along(mm, user):
    anon(mm, A - PAGE, 514)
    user.write(A - PAGE, b"before")
    user.write(A + 7 * PAGE, b"inside")
    user.write(A + PMD, b"behind")
    table = mm.tree.entry_pa(A)
    assert do_mremap(mm, A - PAGE, 514 * PAGE, 514 * PAGE, TO, B - PAGE) == B - PAGE
    assert mm.tree.entry_pa(B) == table, "the table of 2 MiB"
    assert mm.tree.entry_pa(A) is None
    for at, text in ((-PAGE, b"before"), (7 * PAGE, b"inside"), (PMD, b"behind")):
        assert user.read(B + at, 6) == text
    assert do_mremap(mm, B, PMD, PMD, TO, A + PAGE) == A + PAGE
    assert mm.tree.entry_pa(A + PAGE) != table + 8, "not aligned alike: entry by entry"
    assert user.read(A + 8 * PAGE, 6) == b"inside"


def test_a_part_of_a_mapping_moves_and_the_source_keeps_the_rest(mm, user):
    anon(mm, A, 4)
    for i in range(4):
        user.write(A + i * PAGE, bytes([i + 1]))
    assert do_mremap(mm, A + PAGE, 2 * PAGE, 2 * PAGE, TO, B) == B
    assert spans(mm) == [(A, 1), (A + 3 * PAGE, 1), (B, 2)]
    assert [user.read(at, 1)[0] for at in (A, B, B + PAGE, A + 3 * PAGE)] == [1, 2, 3, 4]
    assert do_mremap(mm, B, 2 * PAGE, 2 * PAGE, TO, A + PAGE) == A + PAGE
    assert spans(mm) == [(A, 4)], "the same memory, in its old place: one mapping again"


def test_memory_that_was_never_written_is_merged_where_it_lands(mm, user):
    anon(mm, A, 2)
    anon(mm, B, 2)
    user.read(A, 1)
    assert do_mremap(mm, A, 2 * PAGE, 2 * PAGE, TO, B + 2 * PAGE) == B + 2 * PAGE
    assert spans(mm) == [(B, 4)]
    assert do_mremap(mm, B + PAGE, PAGE, PAGE, TO, B + 4 * PAGE) == B + 4 * PAGE
    assert spans(mm) == [(B, 1), (B + 2 * PAGE, 3)], "the source itself grew over the target"


@pytest.mark.parametrize("back", [1, 0])
def test_written_memory_makes_its_neighbour_part_of_what_was_written(mm, user, back):
    """The page that comes back joins one that was never written: fork() must copy the entries of both."""
    anon(mm, A, 2)
    user.write(A + back * PAGE, b"x")
    anon_vma = mm.vma_lookup(A).anon_vma
    assert do_mremap(mm, A + back * PAGE, PAGE, PAGE, TO, B) == B
    anon(mm, A, 2)
    anon(mm, A + back * PAGE, 1, 0)
    assert do_mremap(mm, B, PAGE, PAGE, TO, A + back * PAGE) == A + back * PAGE
    assert spans(mm) == [(A, 2)] and mm.vma_lookup(A).anon_vma is anon_vma


def test_keeping_the_source(mm, user):
    anon(mm, A, 2)
    user.write(A, b"x")
    mm.flushes.clear()
    assert do_mremap(mm, A, 2 * PAGE, 2 * PAGE, KEEP, B) == B, "without MREMAP_FIXED the address is a hint"
    assert mm.flushes == [(A, A + 2 * PAGE)], "the old translations"
    assert (user.read(A, 1), user.read(B, 1)) == (b"\0", b"x")
    assert mm.vma_lookup(A).anon_vma is None and mm.vma_lookup(B).anon_vma is not None
    assert do_mremap(mm, B, PAGE, PAGE, KEEP | MREMAP_FIXED, B + 4 * PAGE) == B + 4 * PAGE
    assert mm.vma_lookup(B).anon_vma is not None, "a part stayed"


def test_a_fixed_move_takes_all_mappings_and_the_holes_between_them(mm, user):
    anon(mm, A, 2)
    anon(mm, A + 2 * PAGE, 1, PROT_READ)
    anon(mm, A + 5 * PAGE, 2)
    user.write(A + PAGE, b"x")
    user.write(A + 5 * PAGE, b"y")
    assert do_mremap(mm, A + PAGE, 5 * PAGE, 5 * PAGE, TO, B) == B
    assert spans(mm) == [(A, 1), (A + 6 * PAGE, 1), (B, 1), (B + PAGE, 1), (B + 4 * PAGE, 1)]
    assert user.read(B, 1) + user.read(B + 4 * PAGE, 1) == b"xy"
    assert do_mremap(mm, B - PAGE, 3 * PAGE, 3 * PAGE, TO, A + (1 << 24)) == EFAULT, "it begins in a hole"
    assert do_mremap(mm, B, 2 * PAGE, 3 * PAGE, TO, A + (1 << 24)) == EFAULT, "resizing is for one mapping"


# -- resizing --------------------------------------------------------------------------------------------------------


def test_growing_in_place_or_elsewhere(mm, user):
    anon(mm, A, 2)
    user.write(A, b"x")
    assert do_mremap(mm, A, 2 * PAGE, 4 * PAGE, 0) == A
    anon(mm, A + 5 * PAGE, 1)
    assert do_mremap(mm, A + PAGE, 3 * PAGE, 4 * PAGE, 0) == A + PAGE
    assert spans(mm) == [(A, 6)], "the hole is filled: one mapping"
    assert do_mremap(mm, A, 2 * PAGE, 3 * PAGE, 0) == ENOMEM, "inside of the mapping there is no room"
    assert do_mremap(mm, A, 6 * PAGE, (mm.task_size - A) + PAGE, 0) == ENOMEM
    where = do_mremap(mm, A, 2 * PAGE, 3 * PAGE, MOVE)
    assert where == mm.mmap_base - 3 * PAGE and user.read(where, 1) == b"x"
    assert spans(mm) == [(A + 2 * PAGE, 4), (where, 3)]


def test_shrinking(mm, user):
    anon(mm, A, 4)
    user.write(A, b"x")
    assert do_mremap(mm, A, 4 * PAGE, 3 * PAGE, 0) == A
    anon(mm, A + 3 * PAGE, 1, PROT_READ)
    assert do_mremap(mm, A, 4 * PAGE, PAGE, TO, B) == B, "what is cut off may belong to another mapping"
    assert spans(mm) == [(B, 1)] and user.read(B, 1) == b"x"
    assert do_mremap(mm, B, PAGE, PAGE, 0) == B


def test_shared_memory_can_be_had_twice(mm, user, init_mm):
    file = File(init_mm.pages)
    assert do_mmap(mm, A, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, file) == A
    user.write(A, b"x")
    where = do_mremap(mm, A, 0, 2 * PAGE, MOVE)
    assert where > 0 and user.read(where, 1) == b"x" and mm.map_count == 2
    assert file.log == [("open", where)]
    anon(mm, B)
    assert do_mremap(mm, B, 0, PAGE, MOVE) == EINVAL


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((A + 1, PAGE, PAGE, 0), EINVAL),
        ((A, PAGE, 0, 0), EINVAL),
        ((A, PAGE, 1 << 63, 0), EINVAL),
        ((A, PAGE, PAGE, 8), EINVAL),
        ((A, PAGE, PAGE, MREMAP_FIXED, B), EINVAL),
        ((A, PAGE, PAGE, TO, B + 1), EINVAL),
        ((A, PAGE, PAGE, TO, 1 << 62), EINVAL),
        ((A, PAGE, 2 * PAGE, KEEP, B), EINVAL),
        ((A, 2 * PAGE, 2 * PAGE, TO, A + PAGE), EINVAL),
        ((A, PAGE, PAGE, TO, 0x1000), -1),
        ((B, PAGE, 2 * PAGE, MOVE), EFAULT),
        ((B, 2 * PAGE, PAGE, 0), EFAULT),
        ((A, 5 * PAGE, 6 * PAGE, MOVE), EFAULT),
    ],
)
def test_errors_change_nothing(mm, arguments, error):
    anon(mm, A, 4)
    before = spans(mm)
    assert do_mremap(mm, *arguments) == error
    assert spans(mm) == before


def test_room_is_kept_for_the_vmas_that_moving_needs(mm):
    anon(mm, A, 2)
    mm.max_map_count = 6
    assert do_mremap(mm, A, PAGE, PAGE, TO, B) == ENOMEM
    mm.max_map_count = 4
    assert do_mremap(mm, A, PAGE, 2 * PAGE, MOVE) == ENOMEM
    mm.max_map_count = 7
    assert do_mremap(mm, A, PAGE, PAGE, TO, B) == B


def test_a_file_that_does_not_want_to_move(mm, user, init_mm):
    """arena_vm_mremap() and its like: the entries go back, and the new VMA goes."""
    file = File(init_mm.pages, refused=EINVAL)
    assert do_mmap(mm, A, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, file) == A
    user.write(A, b"x")
    entry = mm.tree.pte(A)
    assert do_mremap(mm, A, 2 * PAGE, 2 * PAGE, TO, B) == EINVAL
    assert spans(mm) == [(A, 2)] and mm.tree.pte(A) == entry and not mm.tree.pte(B)
    assert file.log == [("open", B), ("close", B)]
    assert do_mremap(mm, A, PAGE, PAGE, TO, B) == EINVAL, "may_split()"
    assert init_mm.pages.page_count(file.pfn) == 2


def test_what_may_not_expand(mm, init_mm):
    file = File(init_mm.pages, flags=VM_DONTEXPAND)
    assert do_mmap(mm, A, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, file) == A
    anon(mm, A + 2 * PAGE)
    assert do_mremap(mm, A, 2 * PAGE, 3 * PAGE, MOVE) == EFAULT
    assert do_mremap(mm, A, 2 * PAGE, 2 * PAGE, KEEP, B) == EINVAL
    assert do_mremap(mm, A, 3 * PAGE, 3 * PAGE, TO, B) == EFAULT, "nor move with others"
    assert do_mremap(mm, A, 2 * PAGE, 2 * PAGE, TO, B) == B


def test_both_sides_are_locked_before_anything_moves(mm, user):
    """vma_start_write() in move_vma() and vma_link(): no fault finds a page on neither side."""
    anon(mm, A)
    user.write(A, b"x")
    seen = []

    def start_write(vma):
        seen.append((vma.vm_start, bool(mm.tree.pte(A)), mm.vma_lookup(B) is not None))
        yield GuestCall("vma_start_write", vma.addr)

    mm.start_write = start_write
    steps = mremap_steps(mm, A, PAGE, PAGE, TO, B)
    request = next(steps)
    while True:
        assert request.function == "vma_start_write"
        try:
            request = steps.send(None)
        except StopIteration as stop:
            assert stop.value == B
            break
    assert seen == [(A, True, False), (B, True, False), (A, False, True)], "the last is munmap()'s"
