"""Shared memory: files that are nothing but their page cache.

Mirrors mm/shmem.c (Linux 6.18): shmem_fault, shmem_file_setup, shmem_zero_setup. Leaves out: swap, huge pages, limits
and accounting, seals, fallocate().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.fs.file import File, FileSystem, Inode
from kernel_model.mm.filemap import FileVmOperations, max_index, vma_file
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import VmFault, VmFaultInfo
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.page_alloc import OutOfMemoryError

if TYPE_CHECKING:
    from kernel_model.mm.vma import VmArea


class ShmemVmOperations(FileVmOperations):
    """shmem_vm_ops."""

    def fault(self, vmf: VmFaultInfo) -> VmFault:
        """shmem_fault(): a hole is filled with a new page; SIGBUS behind the last page, and without memory."""
        file = vma_file(vmf.vma)
        if vmf.pgoff >= max_index(file):
            return VmFault.SIGBUS
        try:
            pfn = file.f_inode.get_page(vmf.pgoff)
        except OutOfMemoryError:
            return VmFault.OOM
        file.f_inode.init_mm.pages.get_page(pfn)
        vmf.page = pfn
        return VmFault.NONE


SHMEM = FileSystem("shmem", ShmemVmOperations(), stored=False)


def shmem_file_setup(init_mm: InitMm, objects: GuestObjects, name: str, size: int) -> File:
    """shmem_file_setup(): an open file of `size` bytes that has no name in any directory; goes with its last user."""
    inode = Inode(init_mm, objects, SHMEM, name, size)
    file = File(inode, name)
    inode.iput()
    return file


def shmem_zero_setup(vma: VmArea) -> File:
    """shmem_zero_setup(): the file behind shared anonymous memory of `vma`'s size; the caller drops its reference."""
    mm = vma.vm_mm
    file = shmem_file_setup(mm.init_mm, mm.objects, "dev/zero", vma.vm_end - vma.vm_start)
    vma.vm_file = file
    file.mmap(vma)
    return file
