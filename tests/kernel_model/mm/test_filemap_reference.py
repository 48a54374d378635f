"""Processes that map, write, truncate and fork, against dicts of pages that know nothing of page tables."""

import random

import pytest

from arch.interface import PAGE_SIZE
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, do_mmap, do_munmap
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.shmem import shmem_file_setup
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.mm.vma import MmStruct

BASE, PAGES, OFFSETS = 0x10_0000_0000, 8, (0, 9, PAGE_SIZE - 1)
RW = 3


class RefFile:
    """A file: pages that exist, and a size."""

    def __init__(self):
        self.pages, self.size = {}, 0

    def page(self, index):
        return self.pages.setdefault(index, bytearray(PAGE_SIZE))

    def holds(self, index):
        return index * PAGE_SIZE < self.size

    def truncate(self, size, processes):
        shrinks, self.size = size <= self.size, size
        if not shrinks:
            return
        self.pages = {i: p for i, p in self.pages.items() if self.holds(i)}
        if size % PAGE_SIZE and size // PAGE_SIZE in self.pages:
            self.pages[size // PAGE_SIZE][size % PAGE_SIZE :] = bytes(-size % PAGE_SIZE)
        for mapped in (page for process in processes for page in process.values()):
            if mapped.file is self and not self.holds(mapped.index):
                mapped.own = None


class RefPage:
    """What a process has at one page: part of `file` (None: zeros), or a copy of its `own`."""

    def __init__(self, file, index, shared, prot):
        self.file, self.index, self.shared, self.prot, self.own = file, index, shared, prot, None

    def copy(self):
        new = RefPage(self.file, self.index, self.shared, self.prot)
        new.own = None if self.own is None else bytearray(self.own)
        return new

    def read(self, offset):
        if not self.prot & 1 or (self.own is None and self.file and not self.file.holds(self.index)):
            return None
        if self.own is not None:
            return self.own[offset]
        return self.file.page(self.index)[offset] if self.file else 0

    def write(self, offset, value):
        if not self.prot & 2 or (self.own is None and self.file and not self.file.holds(self.index)):
            return False
        if self.own is None and not self.shared:
            self.own = bytearray(self.file.page(self.index)) if self.file else bytearray(PAGE_SIZE)
        (self.file.page(self.index) if self.shared else self.own)[offset] = value
        return True


class World:
    """The model and the reference side by side; each operation is done on both."""

    def __init__(self, init_mm, dice):
        self.init_mm, self.dice = init_mm, dice
        self.slab = Slab(init_mm)
        self.objects = GuestObjects(self.slab)
        self.faults = FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))
        self.usage = init_mm.pages.usage()
        self.users = [UserSpace(MmStruct(init_mm, self.objects, "first"), self.faults)]
        self.refs = [{}]
        self.files = [shmem_file_setup(init_mm, self.objects, "file", 0) for _ in range(2)]
        self.ref_files = [RefFile() for _ in range(2)]

    def some(self):
        number = self.dice.randrange(len(self.users))
        return self.users[number], self.refs[number], self.dice.randrange(PAGES)

    def map(self):
        user, ref, page = self.some()
        count = self.dice.choice([1, 2, 4])
        shared, which = self.dice.random() < 0.4, self.dice.choice([0, 1, None])
        prot, pgoff = self.dice.choice([1, RW, RW, RW]), self.dice.randrange(PAGES)
        flags = MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE) | (MAP_ANONYMOUS if which is None else 0)
        at = BASE + page * PAGE_SIZE
        file = None if which is None else self.files[which]
        assert do_mmap(user.mm, at, count * PAGE_SIZE, prot, flags, file, pgoff) == at
        ref_file = None if which is None else self.ref_files[which]
        if shared and which is None:
            ref_file, pgoff = RefFile(), 0
            ref_file.size = count * PAGE_SIZE
        for n in range(count):
            ref[page + n] = RefPage(ref_file, pgoff + n, shared, prot)

    def unmap(self):
        user, ref, page = self.some()
        assert do_munmap(user.mm, BASE + page * PAGE_SIZE, PAGE_SIZE) == 0
        ref.pop(page, None)

    def protect(self):
        user, ref, page = self.some()
        prot = self.dice.choice([0, 1, RW, RW])
        ret = user.mm.run(do_mprotect(user.mm, BASE + page * PAGE_SIZE, PAGE_SIZE, prot))
        assert ret == (0 if page in ref else -12)
        if page in ref:
            ref[page].prot = prot

    def truncate(self):
        which = self.dice.randrange(2)
        size = self.dice.randrange(PAGES + 4) * PAGE_SIZE + self.dice.choice([0, 0, 5])
        self.files[which].f_inode.truncate(size)
        self.ref_files[which].truncate(size, self.refs)

    def write(self):
        user, ref, page = self.some()
        offset, value = self.dice.choice(OFFSETS), self.dice.randrange(1, 256)
        try:
            user.write(BASE + page * PAGE_SIZE + offset, bytes([value]))
            done = True
        except UserAccessError:
            done = False
        assert done == (page in ref and ref[page].write(offset, value))

    def fork(self):
        user, ref, _ = self.some()
        if len(self.users) < 4:
            self.users.append(UserSpace(user.mm.run(dup_mm(user.mm, "child")), self.faults))
            self.refs.append({page: mapped.copy() for page, mapped in ref.items()})

    def exit(self):
        if len(self.users) > 1:
            number = self.dice.randrange(len(self.users))
            self.users.pop(number).mm.exit_mmap()
            self.refs.pop(number)

    def look(self):
        """One process, every page."""
        user, ref, _ = self.some()
        offset = self.dice.choice(OFFSETS)
        for page in range(PAGES + 4):
            try:
                found = user.read(BASE + page * PAGE_SIZE + offset, 1)[0]
            except UserAccessError:
                found = None
            assert found == (ref[page].read(offset) if page in ref else None), f"page {page}"

    def close(self):
        for file in self.files:
            file.fput()
        for user in self.users:
            user.mm.exit_mmap()
        assert not self.slab.live() and self.init_mm.pages.usage() == self.usage


@pytest.mark.parametrize("seed", range(25))
def test_every_process_sees_what_it_should(init_mm, seed):
    dice = random.Random(seed)
    world = World(init_mm, dice)
    names = ["map", "unmap", "protect", "truncate", "write", "fork", "exit", "look"]
    for _ in range(250):
        getattr(world, dice.choices(names, [4, 1, 2, 2, 12, 1, 0.6, 4])[0])()
    world.close()
