"""Inodes and open files.

Mirrors struct inode and struct file (include/linux/fs.h), fs/file_table.c (alloc_file_pseudo, fput) and fs/inode.c
(iput). An inode keeps its size and its pages, its FileSystem says of what kind it is. What reads and writes it for a
program is guest text (images/kernel/fs, mm/shmem.c, mm/filemap.c). Leaves out: dentries, permissions, times, links,
file locks; the last fput() frees at once, not on the way back to user mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.mm.address_space import AddressSpace
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import VmOperations
from kernel_model.mm.objects import GuestObjects

if TYPE_CHECKING:
    from kernel_model.mm.vma import VmArea

FMODE_READ, FMODE_WRITE, FMODE_LSEEK, FMODE_PREAD, FMODE_PWRITE = 0x1, 0x2, 0x4, 0x8, 0x10
FMODE_ATOMIC_POS, FMODE_CAN_READ, FMODE_CAN_WRITE = 1 << 15, 1 << 17, 1 << 18
_SEEKABLE = FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE | FMODE_CAN_READ | FMODE_CAN_WRITE
MAX_LFS_FILESIZE = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A kind of file. `name` is that of its symbols in the image: <name>_file_operations, <name>_sb and
    <name>_i_mutex_key."""

    name: str
    vm_ops: VmOperations
    stored: bool  # its pages are copies of what is on a store


class Inode:
    """struct inode of a regular file of `size` bytes; with a store, `contents` are on it.

    Whoever makes it holds the first reference.
    """

    def __init__(
        self, init_mm: InitMm, objects: GuestObjects, fs: FileSystem, name: str, size: int = 0, contents: bytes = b""
    ) -> None:
        self.init_mm = init_mm
        self.objects = objects
        self.fs = fs
        self.name = name
        self.i_mapping = AddressSpace(init_mm, f"page cache of {name}", can_writeback=fs.stored)
        self._store = {
            at >> PAGE_SHIFT: contents[at : at + PAGE_SIZE] for at in range(0, len(contents), PAGE_SIZE)
        }
        self._size = max(size, len(contents))
        self._refs = 1
        self.addr = objects.new("inode", i_size=self._size)
        objects.init_inode(self.addr, fs.name)

    @property
    def i_size(self) -> int:
        """Bytes; setting it is i_size_write()."""
        return self._size

    @i_size.setter
    def i_size(self, size: int) -> None:
        self._size = size
        self.objects.set("inode", self.addr, i_size=size)

    def ihold(self) -> None:
        """ihold()"""
        self._refs += 1

    def iput(self) -> None:
        """iput(): with the last reference goes the page cache."""
        self._refs -= 1
        if not self._refs:
            self.i_mapping.truncate_inode_pages(0)
            self.objects.free(self.addr)

    # -- pages -------------------------------------------------------------------------------------------------------

    def get_page(self, index: int) -> int:
        """pfn of the page at `index`, from the store or new if the cache has none. OutOfMemoryError."""
        pfn: int | None = self.i_mapping.i_pages.get(index)
        return pfn if pfn is not None else self.i_mapping.add_page(index, self._store.get(index, b""))

    def truncate(self, size: int) -> None:
        """truncate_setsize(), shmem_setattr(): set the size; what is behind it is gone, for private copies too."""
        old, self.i_size = self._size, size
        if size > old:
            return
        self.i_mapping.unmap_mapping_range((size + PAGE_SIZE - 1) & -PAGE_SIZE, even_cows=True)
        self.i_mapping.truncate_inode_pages(size)
        self._store = {
            index: data[: size - (index << PAGE_SHIFT)]
            for index, data in self._store.items() if index << PAGE_SHIFT < size
        }

    def writeback(self) -> None:
        """filemap_fdatawrite(): dirty pages go to the store and are clean."""
        for index in sorted(self.i_mapping.dirty):
            self.i_mapping.folio_mkclean(index)
            self._store[index] = self.init_mm.memory.read(self.i_mapping.i_pages[index] << PAGE_SHIFT, PAGE_SIZE)

    # -- for whoever looks from outside -------------------------------------------------------------------------------

    def read(self, pos: int, count: int) -> bytes:
        """Up to `count` bytes from `pos`, fewer at the end of the file."""
        out = bytearray()
        end = min(pos + count, self._size)
        while (at := pos + len(out)) < end:
            n = min(end - at, PAGE_SIZE - at % PAGE_SIZE)
            pfn = self.i_mapping.i_pages.get(at >> PAGE_SHIFT)
            if pfn is None:
                page = self._store.get(at >> PAGE_SHIFT, b"").ljust(PAGE_SIZE, b"\0")
                out += page[at % PAGE_SIZE :][:n]
            else:
                out += self.init_mm.memory.read((pfn << PAGE_SHIFT) + at % PAGE_SIZE, n)
        return bytes(out)

    def write(self, pos: int, data: bytes) -> None:
        """Store `data` at `pos`; the file grows if it must. OutOfMemoryError."""
        done = 0
        while done < len(data):
            at = pos + done
            n = min(len(data) - done, PAGE_SIZE - at % PAGE_SIZE)
            pfn = self.get_page(at >> PAGE_SHIFT)
            self.init_mm.memory.write((pfn << PAGE_SHIFT) + at % PAGE_SIZE, data[done : done + n])
            self.i_mapping.mark_dirty(at >> PAGE_SHIFT)
            done += n
        if pos + done > self._size:
            self.i_size = pos + done


class File:
    """struct file: an open `inode`. Descriptors, VMAs and system calls under way hold references.

    `f_mode` of FMODE_READ and FMODE_WRITE is what it was opened for; the position is kept in the guest's struct.
    """

    def __init__(self, inode: Inode, name: str, f_mode: int = FMODE_READ | FMODE_WRITE) -> None:
        self.f_inode = inode
        self.name = name
        self.f_mode = f_mode | _SEEKABLE
        self.on_release: list[Callable[[File], None]] = []
        inode.ihold()
        self._count = 1
        objects = inode.objects
        self.addr = objects.new(
            "file", f_mode=self.f_mode, f_inode=inode.addr, sb=objects.symbol(f"{inode.fs.name}_sb"),
            f_op=objects.symbol(f"{inode.fs.name}_file_operations"),
        )
        objects.init_file(self.addr)

    @property
    def f_mapping(self) -> AddressSpace:
        """The page cache behind it."""
        return self.f_inode.i_mapping

    @property
    def f_count(self) -> int:
        """file_count(): references."""
        return self._count

    def mmap(self, vma: VmArea) -> int:
        """generic_file_mmap(), shmem_mmap(): 0."""
        vma.vm_ops, vma.name = self.f_inode.fs.vm_ops, self.name
        return 0

    def get_file(self) -> File:
        """get_file()"""
        self._count += 1
        return self

    def fput(self) -> None:
        """fput(): the last reference closes the file."""
        self._count -= 1
        if self._count:
            return
        for function in self.on_release:
            function(self)
        self.f_inode.objects.free(self.addr)
        self.f_inode.iput()
