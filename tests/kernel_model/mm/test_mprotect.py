"""mprotect(): errors in Linux's order, VMAs that are cut and joined, entries and translations."""

import pytest

from arch.interface import Prot
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.mm_types import FAULT_FLAG_DEFAULT, VM_ACCOUNT, VM_MAYWRITE, FaultFlag, VmFault
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    do_mmap,
    do_munmap,
)
from kernel_model.mm.mprotect import PROT_GROWSDOWN, PROT_GROWSUP, do_mprotect
from kernel_model.mm.uaccess import UserAccessError

RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS
BASE = 0x20000000
EINVAL, ENOMEM, EACCES = -22, -12, -13


def protect(mm, start, length, prot):
    return mm.run(do_mprotect(mm, start, length, prot))


def shape(mm):
    """(first page, pages, rwx) of each VMA, counted from BASE."""
    return [((v.vm_start - BASE) >> 12, (v.vm_end - v.vm_start) >> 12, v.vm_flags & 7) for v in mm.vmas()]


def fixed(mm, page, count, prot=RW, flags=0):
    assert do_mmap(mm, BASE + page * 4096, count * 4096, prot, ANON | MAP_FIXED | flags) == BASE + page * 4096


def test_errors(mm):
    fixed(mm, 0, 4)
    assert protect(mm, BASE + 1, 4096, 1 << 20) == EINVAL
    assert protect(mm, BASE + 1, 0, RW) == EINVAL
    assert protect(mm, 0x1000, 0, 1 << 20) == 0  # length 0 comes before unknown bits
    assert protect(mm, BASE, 2**64 - 4096, 1 << 20) == ENOMEM  # and a wrap too
    assert protect(mm, BASE, 4096, 1 << 20) == EINVAL
    assert protect(mm, BASE, 4096, RW | PROT_GROWSDOWN | PROT_GROWSUP) == EINVAL
    assert protect(mm, BASE, 4096, RW | PROT_GROWSUP) == EINVAL
    assert protect(mm, BASE, 4096, RW | PROT_GROWSDOWN) == EINVAL
    assert protect(mm, BASE - 4096, 4096, PROT_READ) == ENOMEM
    assert protect(mm, BASE - 4096, 8192, PROT_READ) == ENOMEM
    assert shape(mm) == [(0, 4, RW)]


def test_what_lies_before_an_error_is_changed(mm):
    fixed(mm, 0, 2)
    fixed(mm, 3, 1)
    assert protect(mm, BASE, 4 * 4096, PROT_READ) == ENOMEM
    assert shape(mm) == [(0, 2, PROT_READ), (3, 1, RW)]
    fixed(mm, 2, 1, PROT_READ)
    last = mm.vma_lookup(BASE + 3 * 4096)
    mm.set_flags(last, (last.vm_flags & ~RW) & ~VM_MAYWRITE)  # as a file that is open for reading has it
    assert protect(mm, BASE + 4096, 3 * 4096, RW) == EACCES
    assert shape(mm) == [(0, 1, PROT_READ), (1, 2, RW), (3, 1, 0)]


def test_a_stack_is_protected_from_its_start(mm):
    fixed(mm, 0, 4, flags=MAP_GROWSDOWN)
    assert protect(mm, BASE + 2 * 4096, 4096, PROT_READ | PROT_GROWSDOWN) == 0
    assert shape(mm) == [(0, 3, PROT_READ), (3, 1, RW)]


def test_cut_and_joined_again(mm):
    fixed(mm, 0, 6)
    assert protect(mm, BASE + 2 * 4096, 2 * 4096, PROT_READ) == 0
    assert shape(mm) == [(0, 2, RW), (2, 2, PROT_READ), (4, 2, RW)]
    assert mm.map_count == 3
    assert protect(mm, BASE + 3 * 4096, 4096, RW) == 0
    assert shape(mm) == [(0, 2, RW), (2, 1, PROT_READ), (3, 3, RW)]
    assert protect(mm, BASE + 2 * 4096, 4096, RW) == 0
    assert shape(mm) == [(0, 6, RW)]
    assert [v.vm_pgoff for v in mm.vmas()] == [BASE >> 12]
    assert list(mm.by_addr) == [v.addr for v in mm.vmas()]


def test_memory_that_was_written_stays_accounted_and_apart(mm, user):
    fixed(mm, 0, 1)
    user.write(BASE, b"x")
    assert protect(mm, BASE, 4096, PROT_READ) == 0
    assert mm.vma_lookup(BASE).vm_flags & VM_ACCOUNT
    fixed(mm, 1, 1, PROT_READ)
    assert shape(mm) == [(0, 1, PROT_READ), (1, 1, PROT_READ)]


def test_entries_follow_and_only_a_loss_is_flushed(mm, user):
    fixed(mm, 0, 3)
    user.write(BASE, b"mine")
    user.read(BASE + 4096, 1)  # the zero page
    flushed = []
    mm.flush = lambda start, end: flushed.append((start - BASE, end - BASE))
    assert protect(mm, BASE, 3 * 4096, PROT_READ) == 0
    assert mm.tree.walk(BASE).prot == Prot.READ | Prot.USER
    assert flushed == [(0, 3 * 4096)]
    with pytest.raises(UserAccessError, match="SEGV_ACCERR"):
        user.write(BASE, b"x")
    assert protect(mm, BASE, 3 * 4096, RW | PROT_EXEC) == 0
    assert mm.tree.walk(BASE).prot == Prot.READ | Prot.WRITE | Prot.EXEC | Prot.USER  # nobody else has the page
    assert not mm.tree.walk(BASE + 4096).prot & Prot.WRITE  # but everybody the zero page
    assert len(flushed) == 1
    user.write(BASE + 4096, b"too")
    assert user.read(BASE, 4) == b"mine" and user.read(BASE + 4096, 3) == b"too"


def test_prot_none_keeps_the_page(mm, user, init_mm):
    used = init_mm.pages.usage().get("anonymous memory of test", 0)
    fixed(mm, 0, 2)
    user.write(BASE, b"kept")
    user.read(BASE + 4096, 1)
    assert protect(mm, BASE, 8192, 0) == 0
    assert mm.tree.walk(BASE).pa is None and mm.tree.pte(BASE)
    with pytest.raises(UserAccessError, match="SEGV_ACCERR"):
        user.read(BASE, 1)
    assert protect(mm, BASE, 8192, RW) == 0
    assert user.read(BASE, 4) == b"kept" and user.read(BASE + 4096, 4) == bytes(4)
    assert protect(mm, BASE, 8192, 0) == 0
    assert do_munmap(mm, BASE, 8192) == 0
    assert init_mm.pages.usage().get("anonymous memory of test", 0) == used


def test_limit_on_the_number_of_vmas(mm):
    fixed(mm, 0, 4)
    mm.max_map_count = 2
    assert protect(mm, BASE + 4096, 2 * 4096, PROT_READ) == ENOMEM
    assert shape(mm) == [(0, 1, RW), (1, 3, RW)]  # the first cut was made


def test_first_write_under_the_vma_lock_needs_mmap_lock_once(mm, init_mm):
    """vmf_anon_prepare(): what it asks for, and that a refusal is a retry."""
    fixed(mm, 0, 2)
    vma = mm.vma_lookup(BASE)
    faults = FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))
    flags = FAULT_FLAG_DEFAULT | FaultFlag.USER | FaultFlag.VMA_LOCK

    def under_lock(address, flags, answer):
        steps, asked, value = faults.fault_steps(vma, address, flags), [], None
        try:
            while True:
                request = steps.send(value)
                asked.append(request.function)
                assert request.arguments == (mm.addr,)
                value = answer
        except StopIteration as stop:
            return stop.value, asked

    assert under_lock(BASE, flags, 0) == (VmFault.NONE, [])  # a read maps the zero page
    flags |= FaultFlag.WRITE
    assert under_lock(BASE, flags, 0) == (VmFault.RETRY, ["mmap_read_trylock"])
    assert vma.anon_vma is None and mm.tree.walk(BASE).pa == faults.zero_pfn << 12
    assert under_lock(BASE, flags, 1) == (VmFault.NONE, ["mmap_read_trylock", "mmap_read_unlock"])
    assert under_lock(BASE + 4096, flags, 0) == (VmFault.NONE, [])


def test_neighbours_share_an_anon_vma_so_that_they_can_be_joined(mm, user):
    fixed(mm, 0, 2)
    assert protect(mm, BASE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0
    user.write(BASE, b"x")
    user.write(BASE + 4096, b"y")
    low, high = mm.vmas()
    assert low.anon_vma is high.anon_vma is not None
    assert protect(mm, BASE, 4096, RW) == 0
    assert shape(mm) == [(0, 2, RW)]


def test_written_islands_stay_apart(mm, user):
    fixed(mm, 0, 1)
    fixed(mm, 2, 1)
    user.write(BASE, b"x")
    user.write(BASE + 8192, b"y")
    fixed(mm, 1, 1)  # joins its left neighbour only: the two islands have memory of their own
    assert shape(mm) == [(0, 2, RW), (2, 1, RW)]
