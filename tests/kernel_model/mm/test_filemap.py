"""Mappings of a page cache: reads, copies, shared writes and their dirt, the end of the file."""

import pytest

from arch.interface import PAGE_SIZE, Prot
from kernel_model.fs.file import FMODE_READ, FMODE_WRITE, File, Inode
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.filemap import EXT2
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.madvise import Madv, do_madvise
from kernel_model.mm.mincore import do_mincore
from kernel_model.mm.mm_types import FAULT_FLAG_DEFAULT, VM_MAYSHARE, VM_MAYWRITE, VM_SHARED, FaultFlag, VmFault
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    PROT_READ,
    PROT_WRITE,
    do_mmap,
    do_munmap,
)
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.mremap import MREMAP_MAYMOVE, do_mremap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.shmem import SHMEM, shmem_file_setup
from kernel_model.mm.signals import BUS_ADRERR, SIGBUS, SigInfo
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.mm.vma import MmStruct

RW = PROT_READ | PROT_WRITE
USER = FAULT_FLAG_DEFAULT | FaultFlag.USER
CONTENTS = b"".join(bytes([i + 1]) * PAGE_SIZE for i in range(20)) + b"tail"


class World:
    """One process, and files of both kinds."""

    def __init__(self, init_mm):
        self.init_mm = init_mm
        self.slab = Slab(init_mm)
        self.objects = GuestObjects(self.slab)
        self.faults = FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))
        self.usage = init_mm.pages.usage()
        self.mm = MmStruct(init_mm, self.objects, "test")
        self.user = UserSpace(self.mm, self.faults)

    def open(self, contents=CONTENTS, fs=EXT2, f_mode=FMODE_READ | FMODE_WRITE):
        inode = Inode(self.init_mm, self.objects, fs, "data", contents=contents if fs.stored else b"")
        if not fs.stored:
            inode.write(0, contents)
        file = File(inode, "data", f_mode)
        inode.iput()
        return file

    def map(self, file, pages, flags=MAP_SHARED, prot=RW, pgoff=0, at=0):
        return do_mmap(self.mm, at, pages * PAGE_SIZE, prot, flags, file, pgoff)

    def fault(self, address, flags):
        return self.faults.handle_mm_fault(self.mm.vma_lookup(address), address, flags)

    def fork(self):
        return self.mm.run(dup_mm(self.mm, "child"))

    def mapped(self, va, pages):
        return [page for page in range(pages) if self.mm.tree.walk(va + page * PAGE_SIZE).pa is not None]

    def signal(self, address, *, write=False):
        with pytest.raises(UserAccessError) as caught:
            self.user.write(address, b"x") if write else self.user.read(address, 1)
        return caught.value.signal


@pytest.fixture
def world(init_mm):
    return World(init_mm)


@pytest.fixture(params=[EXT2, SHMEM], ids=lambda fs: fs.name)
def file(world, request):
    return world.open(fs=request.param)


# -- reading ---------------------------------------------------------------------------------------------------------


def test_the_first_read_is_major_and_maps_what_is_around(world):
    va = world.map(world.open(), 21, MAP_PRIVATE, PROT_READ)
    assert world.user.read(va + 3 * PAGE_SIZE, 2) == b"\4\4"
    assert (world.mm.counters.major, world.mm.counters.minor) == (1, 0)
    index = va >> 12 & 511
    aligned = (index + 3) & -16
    low, high = max(aligned - index, 0), min(max(aligned, index) + 16 - index, 512 - index, 21)
    assert world.mapped(va, 21) == list(range(low, high)), "64 KiB, within the VMA"
    assert world.user.read(va + 20 * PAGE_SIZE, 8) == b"tail" + bytes(4)
    assert (world.mm.counters.major, world.mm.counters.minor) == (1, 0 if high > 20 else 1)


def test_reading_from_the_store_gives_up_the_lock(world):
    """maybe_unlock_mmap_for_io(): under whichever lock, the first try ends with RETRY, the next finds the page."""
    file = world.open()
    for lock in (FaultFlag.VMA_LOCK, FaultFlag.NONE):
        va = world.map(file, 4, pgoff=0 if lock else 16)
        file.f_mapping.truncate_inode_pages(0)
        assert world.fault(va, USER | lock) == VmFault.MAJOR | VmFault.RETRY
        assert not world.mapped(va, 4)
        assert world.fault(va, USER | FaultFlag.TRIED) in (VmFault.NONE, VmFault.NOPAGE)
    va = world.map(file, 4, pgoff=4)
    assert world.fault(va, USER | FaultFlag.VMA_LOCK) == VmFault.NOPAGE, "cached: the VMA's lock was enough"


def test_a_copy_needs_an_anon_vma_before_the_page(world):
    va = world.map(world.open(fs=SHMEM), 4, MAP_PRIVATE)
    vma = world.mm.vma_lookup(va)
    assert world.fault(va, USER) == VmFault.NOPAGE and vma.anon_vma is None
    assert world.fault(va + PAGE_SIZE, USER | FaultFlag.WRITE) == VmFault.NONE and vma.anon_vma is not None
    shared = world.map(world.open(fs=SHMEM), 4)
    assert world.fault(shared, USER | FaultFlag.WRITE | FaultFlag.VMA_LOCK) == VmFault.NONE
    assert world.mm.vma_lookup(shared).anon_vma is None


def test_pages_are_there_when_they_are_cached(world):
    file = world.open()
    va = world.map(file, 4, pgoff=2)
    file.f_mapping.truncate_inode_pages(0)
    assert do_mincore(world.mm, va, 9) == bytes(4)
    file.f_mapping.add_page(3)
    assert do_mincore(world.mm, va + PAGE_SIZE, 9) == b"\1\0\0", "though nothing maps it"


def test_a_mapping_that_moves_takes_its_file_along(world, file):
    held = file.f_count
    va = world.map(file, 3, pgoff=1)
    world.user.write(va + PAGE_SIZE, b"x")
    where = do_mremap(world.mm, va + PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE)
    assert where > 0 and where != va + PAGE_SIZE
    assert world.user.read(where, 2) == b"x\3" and world.user.read(where + PAGE_SIZE, 1) == b"\4"
    assert file.f_count == held + 3 == held + len(file.f_mapping.i_mmap), "what is left on both sides, and the new one"
    assert do_mremap(world.mm, where, 0, PAGE_SIZE, MREMAP_MAYMOVE) == va + PAGE_SIZE
    assert file.f_count == held + 2 == held + len(file.f_mapping.i_mmap), "the second one fills the hole: one mapping"
    assert do_madvise(world.faults, world.mm, where, PAGE_SIZE, Madv.WIPEONFORK) == -22
    assert do_madvise(world.faults, world.mm, where, PAGE_SIZE, Madv.DONTNEED) == 0
    assert world.user.read(where, 1) == b"x"
    world.mm.exit_mmap()
    assert file.f_count == held and not file.f_mapping.i_mmap


def test_populating_waits_for_the_store_instead_of_trying_again(world):
    file = world.open()
    va = world.map(file, 4)
    file.f_mapping.truncate_inode_pages(0)
    assert do_madvise(world.faults, world.mm, va, 4 * PAGE_SIZE, Madv.POPULATE_READ) == 0
    assert world.mapped(va, 4) == [0, 1, 2, 3]


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_private_write_stays_private(world, file):
    va = world.map(file, 2, MAP_PRIVATE, pgoff=1)
    assert world.user.read(va, 1) == b"\2"
    world.user.write(va, b"mine")
    world.user.write(va + PAGE_SIZE, b"too")
    assert world.user.read(va, 5) == b"mine\2" and world.user.read(va + PAGE_SIZE, 4) == b"too\3"
    assert file.f_inode.read(PAGE_SIZE, 4) == b"\2\2\2\2" and not file.f_mapping.dirty
    assert world.init_mm.pages.usage()["anonymous memory of test"] == 2


def test_a_file_sees_what_is_written_after_a_private_read_until_the_copy(world, file):
    """An unwritten private page is the cache's own."""
    va = world.map(file, 1, MAP_PRIVATE)
    assert world.user.read(va, 1) == b"\1"
    file.f_inode.write(0, b"new")
    assert world.user.read(va, 4) == b"new\1"
    world.user.write(va + 8, b"x")
    file.f_inode.write(0, b"old")
    assert world.user.read(va, 4) == b"new\1"


def test_a_shared_write_dirties_each_page_until_it_is_written_back(world):
    file = world.open()
    va = world.map(file, 2)
    world.user.read(va, 1)
    assert not world.mm.tree.walk(va).prot & Prot.WRITE
    world.user.write(va, b"hello")
    world.user.write(va + PAGE_SIZE, b"world")
    assert file.f_inode.read(0, 5) == b"hello" and file.f_mapping.dirty == {0, 1}
    assert world.mm.tree.walk(va).prot & Prot.WRITE
    flushes = []
    world.mm.flush = lambda start, end: flushes.append((start, end))
    file.f_inode.writeback()
    assert not file.f_mapping.dirty and flushes == [(va, va + PAGE_SIZE), (va + PAGE_SIZE, va + 2 * PAGE_SIZE)]
    assert not world.mm.tree.walk(va).prot & Prot.WRITE
    for prot in (PROT_READ, RW):
        assert world.mm.run(do_mprotect(world.mm, va, PAGE_SIZE, prot)) == 0
    assert not world.mm.tree.walk(va).prot & Prot.WRITE, "mprotect() does not hide a first write"
    world.user.write(va, b"again")
    assert file.f_mapping.dirty == {0}


def test_shared_memory_is_writable_at_once(world):
    va = world.map(world.open(fs=SHMEM), 1)
    world.user.read(va, 1)
    assert world.mm.tree.walk(va).prot & Prot.WRITE


def test_shared_anonymous_memory_has_a_file_of_its_own(world):
    va, other = (world.map(None, 4, MAP_SHARED | MAP_ANONYMOUS) for _ in range(2))
    child = world.fork()
    theirs = UserSpace(child, world.faults)
    theirs.write(va, b"theirs")
    world.user.write(va + PAGE_SIZE, b"ours")
    assert world.user.read(va, 6) == b"theirs" and theirs.read(va + PAGE_SIZE, 4) == b"ours"
    assert world.user.read(other, 6) == bytes(6)
    assert world.mm.vma_lookup(va).vm_file is not world.mm.vma_lookup(other).vm_file
    child.exit_mmap()
    assert world.user.read(va, 6) == b"theirs"


# -- the end of the file ---------------------------------------------------------------------------------------------


def test_beyond_the_last_page_is_sigbus_also_after_truncation(world, file):
    va = world.map(file, 24)
    private = world.map(file, 21, MAP_PRIVATE)
    for page in (6, 2):
        world.user.write(private + page * PAGE_SIZE, b"copy")
    world.user.read(va + 5 * PAGE_SIZE, 1)
    assert world.signal(va + 21 * PAGE_SIZE + 5) == SigInfo(SIGBUS, BUS_ADRERR, va + 21 * PAGE_SIZE + 5)
    file.f_inode.truncate(5 * PAGE_SIZE + 10)
    assert world.user.read(va + 5 * PAGE_SIZE, 12) == b"\6" * 10 + b"\0\0"
    for where in (va + 21 * PAGE_SIZE, va + 6 * PAGE_SIZE + 7, private + 6 * PAGE_SIZE):
        for write in (False, True):
            assert world.signal(where, write=write) == SigInfo(SIGBUS, BUS_ADRERR, where)
    assert world.user.read(private + 2 * PAGE_SIZE, 4) == b"copy", "a copy of what is still there is kept"
    file.f_inode.write(8 * PAGE_SIZE, b"more")
    assert world.user.read(va + 6 * PAGE_SIZE, 1) == b"\0" and world.user.read(va + 8 * PAGE_SIZE, 4) == b"more"
    assert world.user.read(private + 6 * PAGE_SIZE, 4) == bytes(4)


def test_a_cached_page_behind_the_end_is_not_mapped(world, file):
    """As a write leaves one that could not read its buffer."""
    file.f_inode.get_page(22)
    va = world.map(file, 24)
    world.user.read(va + 20 * PAGE_SIZE, 1), world.user.read(va + 16 * PAGE_SIZE, 1)
    assert not {21, 22, 23} & set(world.mapped(va, 24))
    assert world.signal(va + 22 * PAGE_SIZE).signo == SIGBUS


def test_unmapping_without_even_cows_keeps_copies(world, file):
    private = world.map(file, 4, MAP_PRIVATE)
    world.user.write(private, b"copy")
    world.user.read(private + PAGE_SIZE, 1)
    file.f_mapping.unmap_mapping_range(0, even_cows=False)
    assert world.mapped(private, 4) == [0]
    file.f_mapping.unmap_mapping_range(PAGE_SIZE, even_cows=True)
    assert world.mapped(private, 4) == [0]
    file.f_mapping.unmap_mapping_range(0, even_cows=True)
    assert not world.mapped(private, 4) and world.user.read(private, 4) == b"\1\1\1\1"


def test_truncation_follows_what_became_of_a_mapping(world, file):
    """Cut, moved in the tree, merged again: the address_space still knows which pages lie where."""
    va = world.map(file, 12, MAP_SHARED)
    assert world.mm.run(do_mprotect(world.mm, va + 4 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ)) == 0
    do_munmap(world.mm, va + 8 * PAGE_SIZE, PAGE_SIZE)
    assert world.mm.map_count == 4 and len(file.f_mapping.i_mmap) == 4 and file.f_count == 5
    world.user.read(va, 8 * PAGE_SIZE), world.user.read(va + 9 * PAGE_SIZE, 3 * PAGE_SIZE)
    file.f_inode.truncate(5 * PAGE_SIZE)
    assert world.mapped(va, 12) == [0, 1, 2, 3, 4]
    assert world.mm.run(do_mprotect(world.mm, va + 4 * PAGE_SIZE, 2 * PAGE_SIZE, RW)) == 0
    assert world.map(file, 1, MAP_SHARED | MAP_FIXED, pgoff=8, at=va + 8 * PAGE_SIZE) == va + 8 * PAGE_SIZE
    assert world.mm.map_count == 1 and len(file.f_mapping.i_mmap) == 1 and file.f_count == 2
    file.f_inode.truncate(PAGE_SIZE)
    assert world.mapped(va, 12) == [0]


def test_pages_meet_only_where_the_file_goes_on(world, file):
    va = world.map(file, 1, at=0x10_0000_0000)
    assert world.map(file, 1, MAP_SHARED | MAP_FIXED, pgoff=2, at=va + PAGE_SIZE) and world.mm.map_count == 2
    assert world.map(file, 1, MAP_SHARED | MAP_FIXED, pgoff=1, at=va + PAGE_SIZE) and world.mm.map_count == 1
    assert world.map(world.open(), 1, MAP_SHARED | MAP_FIXED, pgoff=2, at=va + 2 * PAGE_SIZE)
    assert world.mm.map_count == 2, "another file"


# -- fork ------------------------------------------------------------------------------------------------------------


def test_fork_copies_tables_only_where_pages_were_copied(world, file):
    """vma_needs_copy(): what a fault finds again is left to it."""
    shared, private, written = (world.map(file, 2, kind) for kind in (MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE))
    for va in (shared, private, written):
        world.user.read(va, 2 * PAGE_SIZE)
    world.user.write(written, b"mine")
    child = world.fork()
    present = [[child.tree.pte(va + i * PAGE_SIZE) != 0 for i in range(2)] for va in (shared, private, written)]
    assert present == [[False, False], [False, False], [True, True]]
    theirs = UserSpace(child, world.faults)
    theirs.write(shared, b"S")
    theirs.write(written, b"their")
    theirs.write(written + PAGE_SIZE, b"C")
    assert (world.user.read(shared, 1), world.user.read(written, 5)) == (b"S", b"mine\1")
    assert world.user.read(written + PAGE_SIZE, 1) == theirs.read(private + PAGE_SIZE, 1) == b"\2"
    assert len(file.f_mapping.i_mmap) == 6 and file.f_count == 7
    child.exit_mmap()
    assert len(file.f_mapping.i_mmap) == 3 and file.f_count == 4


# -- errors and bookkeeping ------------------------------------------------------------------------------------------


def test_modes_and_errors(world, file):
    readonly, writeonly = world.open(f_mode=FMODE_READ), world.open(f_mode=FMODE_WRITE)
    assert world.map(readonly, 1) == -13
    va = world.map(readonly, 1, prot=PROT_READ)
    flags = world.mm.vma_lookup(va).vm_flags
    assert flags & VM_MAYSHARE and not flags & (VM_SHARED | VM_MAYWRITE)
    assert world.mm.run(do_mprotect(world.mm, va, PAGE_SIZE, RW)) == -13
    for kind in (MAP_PRIVATE, MAP_SHARED):
        assert world.map(writeonly, 1, kind, PROT_READ) == world.map(writeonly, 1, kind, PROT_WRITE) == -13
    assert world.map(readonly, 1, MAP_PRIVATE) > 0
    assert world.map(file, 1, MAP_PRIVATE | MAP_GROWSDOWN) == world.map(file, 1, MAP_SHARED | MAP_GROWSDOWN) == -22
    assert world.map(file, 1, 0) == world.map(file, 1, 0xF) == -22
    assert world.map(file, 1, pgoff=1 << 51) == -75 and world.map(file, 1, pgoff=(1 << 51) - 2) > 0
    assert world.map(file, 1, MAP_SHARED_VALIDATE) > 0
    assert world.map(file, 1, MAP_SHARED_VALIDATE | 0x80000) == -95  # MAP_SYNC


def test_every_page_and_struct_comes_back(world):
    user, mm = world.user, world.mm
    files = [world.open(), world.open(fs=SHMEM), shmem_file_setup(world.init_mm, world.objects, "memfd", 1 << 20)]
    for file in [*files, None]:
        for kind in (MAP_SHARED, MAP_PRIVATE):
            va = world.map(file, 21, kind if file else kind | MAP_ANONYMOUS)
            user.read(va, 1), user.write(va + PAGE_SIZE, b"x"), user.read(va + 3 * PAGE_SIZE, 1)
            do_mmap(mm, va + PAGE_SIZE, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
            mm.run(do_mprotect(mm, va + 5 * PAGE_SIZE, PAGE_SIZE, PROT_READ))
            do_munmap(mm, va + 7 * PAGE_SIZE, PAGE_SIZE)
    child = world.fork()
    UserSpace(child, world.faults).write(va, b"x")
    for file in files:
        file.fput()
    assert world.init_mm.pages.usage()["page cache of data"], "its mappings hold it"
    mm.exit_mmap()
    assert world.init_mm.pages.usage()["page cache of data"]
    child.exit_mmap()
    assert world.slab.live() == [] and world.init_mm.pages.usage() == world.usage


def test_faults_without_memory_leave_nothing_behind(world, file):
    vas = [world.map(file, 4, kind) for kind in (MAP_SHARED, MAP_PRIVATE)]
    pages = world.init_mm.pages
    file.f_inode.get_page(0)
    for spare in range(7):
        hoard = []
        while pages.nr_free > spare:
            hoard.append(pages.alloc_pages(owner="hoard"))
        usage, count = pages.usage(), pages.page_count(file.f_inode.get_page(0))
        for va in vas:
            ret = world.fault(va, USER | FaultFlag.WRITE | FaultFlag.TRIED)
            assert ret in (VmFault.NONE, VmFault.OOM)
            world.mm.zap_page_range(va, PAGE_SIZE)
        assert pages.page_count(file.f_inode.get_page(0)) == count
        tables = {"page tables of test"}
        assert {k for k in pages.leaks(usage)} <= tables
        for pfn in hoard:
            pages.free_pages(pfn)
    assert ret == VmFault.NONE
    hoard = []
    with pytest.raises(OutOfMemoryError):
        while True:
            hoard.append(pages.alloc_pages(owner="hoard"))
    assert world.fault(vas[0] + 3 * PAGE_SIZE, USER | FaultFlag.TRIED) in (VmFault.OOM, VmFault.NOPAGE, VmFault.NONE)
