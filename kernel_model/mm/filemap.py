"""Faults of mapped files.

Mirrors mm/filemap.c (Linux 6.18): filemap_fault, filemap_map_pages, do_sync_mmap_readahead, generic_file_vm_ops. A page
that is not cached is read from the file's store at once, but as in Linux the fault gives up its lock for that
(VM_FAULT_RETRY) where it may, and counts as major. Leaves out: waiting for the store, readahead but for the reading
around a missing page, mmap_miss, page_mkwrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.fs.file import File, FileSystem
from kernel_model.mm.mm_types import FaultFlag, VmFault, VmFaultInfo
from kernel_model.mm.page_alloc import OutOfMemoryError

if TYPE_CHECKING:
    from kernel_model.mm.vma import VmArea

_RA_PAGES = 32  # VM_READAHEAD_PAGES: 128 KiB


def vma_file(vma: VmArea) -> File:
    """vma->vm_file of a VMA whose vm_ops are those of a file."""
    assert isinstance(vma.vm_file, File)
    return vma.vm_file


def max_index(file: File) -> int:
    """Pages up to the end of the file; the last one may be partly behind it."""
    return (file.f_inode.i_size + PAGE_SIZE - 1) >> PAGE_SHIFT


def filemap_map_pages(vmf: VmFaultInfo, start_pgoff: int, end_pgoff: int) -> list[tuple[int, int]]:
    """filemap_map_pages(): (index, pfn) of what is cached of [start_pgoff, end_pgoff] and not behind the end, each
    with a reference for its mapping."""
    file = vma_file(vmf.vma)
    found = []
    for index in file.f_mapping.i_pages.irange(start_pgoff, min(end_pgoff, max_index(file) - 1)):
        pfn = file.f_mapping.i_pages[index]
        file.f_inode.init_mm.pages.get_page(pfn)
        found.append((index, pfn))
    return found


def filemap_fault(vmf: VmFaultInfo) -> VmFault:
    """filemap_fault(): SIGBUS behind the last page; MAJOR, and RETRY where that is allowed, for one not cached."""
    file = vma_file(vmf.vma)
    if vmf.pgoff >= max_index(file):
        return VmFault.SIGBUS
    ret = VmFault.NONE
    try:
        if vmf.pgoff not in file.f_mapping.i_pages:
            ret = VmFault.MAJOR
            _read_around(file, vmf.pgoff)
            if vmf.flags & FaultFlag.ALLOW_RETRY and not vmf.flags & (FaultFlag.TRIED | FaultFlag.RETRY_NOWAIT):
                return ret | VmFault.RETRY  # maybe_unlock_mmap_for_io()
        pfn = file.f_inode.get_page(vmf.pgoff)
    except OutOfMemoryError:
        return VmFault.OOM
    file.f_inode.init_mm.pages.get_page(pfn)
    vmf.page = pfn
    return ret


def _read_around(file: File, pgoff: int) -> None:
    """do_sync_mmap_readahead(): what lies around the page comes into the cache too."""
    start = max(0, pgoff - _RA_PAGES // 2)
    for index in range(start, min(start + _RA_PAGES, max_index(file))):
        file.f_inode.get_page(index)


class FileVmOperations:
    """generic_file_vm_ops."""

    has_map_pages = True
    has_close = False

    def open(self, vma: VmArea) -> None:
        """Nothing: the address_space knows its VMAs."""

    def close(self, vma: VmArea) -> None:
        """Nothing."""

    def may_split(self, vma: VmArea, addr: int) -> int:
        """Anywhere."""
        return 0

    def fault(self, vmf: VmFaultInfo) -> VmFault:
        """filemap_fault()"""
        return filemap_fault(vmf)


EXT2 = FileSystem("ext2", FileVmOperations(), stored=True)
