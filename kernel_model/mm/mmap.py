"""mmap() and munmap().

Mirrors mm/mmap.c and mm/vma.c: do_mmap, get_unmapped_area (top down, no randomisation), do_vmi_munmap with splitting,
the stack of fs/exec.c. Leaves out: files on disks, mremap, mprotect, merging of adjacent VMAs, resource limits, brk.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.mm.mm_types import (
    VM_EXEC,
    VM_GROWSDOWN,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
)
from kernel_model.mm.vma import MmStruct, VmArea

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x10, 0x20
MAP_GROWSDOWN, MAP_FIXED_NOREPLACE = 0x100, 0x100000

_ENOMEM, _EEXIST, _EINVAL, _EPERM = 12, 17, 22, 1
_MMAP_MIN_ADDR = 0x10000


class MappableFile(Protocol):
    """What do_mmap() asks of a file (struct file_operations): a BPF map is one. Errors are -errno."""

    def get_unmapped_area(self, mm: MmStruct, addr: int, length: int, pgoff: int, flags: int) -> int:
        """Where to map; usually asks `mm_get_unmapped_area()` and adjusts."""
        ...

    def mmap(self, vma: VmArea) -> int:
        """Accept the VMA: set vm_ops, vm_private_data and flags. 0 or -errno."""
        ...


def mm_get_unmapped_area(mm: MmStruct, addr: int, length: int, flags: int) -> int:
    """arch_get_unmapped_area_topdown(): `addr` if it is given and free, else the highest hole below mmap_base."""
    if length > mm.task_size:
        return -_ENOMEM
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        return addr
    addr = (addr + PAGE_SIZE - 1) & -PAGE_SIZE
    hinted = addr >= _MMAP_MIN_ADDR and addr + length <= mm.task_size
    if hinted and mm.find_vma_intersection(addr, addr + length) is None:
        return addr
    high = mm.mmap_base
    for vma in reversed(list(mm.vmas())):
        if vma.vm_start >= high:
            continue
        if vma.vm_end <= high - length:
            break
        high = vma.vm_start
    return high - length if high - length >= _MMAP_MIN_ADDR else -_ENOMEM


def do_mmap(
    mm: MmStruct,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    file: MappableFile | None = None,
    pgoff: int = 0,
    name: str = "",
) -> int:
    """mmap(2): address of the mapping or -errno. `addr` and `length` in bytes, `pgoff` in pages."""
    if not length or not flags & (MAP_SHARED | MAP_PRIVATE):
        return -_EINVAL
    length = (length + PAGE_SIZE - 1) & -PAGE_SIZE
    if file is None:
        where = mm_get_unmapped_area(mm, addr, length, flags)
    else:
        where = file.get_unmapped_area(mm, addr, length, pgoff, flags)
    if where < 0:
        return where
    if err := _check_place(mm, where, length, flags):
        return err
    if flags & MAP_FIXED and not flags & MAP_FIXED_NOREPLACE:
        do_munmap(mm, where, length)
    vma = VmArea(mm, where, where + length, _vm_flags(prot, flags), pgoff, name=name)
    if file is not None and (err := file.mmap(vma)):
        return err
    mm.insert_vma(vma)
    return where


def _check_place(mm: MmStruct, where: int, length: int, flags: int) -> int:
    if where & (PAGE_SIZE - 1):
        return -_EINVAL
    if where + length > mm.task_size:
        return -_ENOMEM
    if where < _MMAP_MIN_ADDR:
        return -_EPERM
    overlaps = mm.find_vma_intersection(where, where + length) is not None
    return -_EEXIST if overlaps and flags & MAP_FIXED_NOREPLACE else 0


def _vm_flags(prot: int, flags: int) -> int:
    """calc_vm_prot_bits() and the VM_MAY* defaults of do_mmap()."""
    vm_flags = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    vm_flags |= VM_READ if prot & PROT_READ else 0
    vm_flags |= VM_WRITE if prot & PROT_WRITE else 0
    vm_flags |= VM_EXEC if prot & PROT_EXEC else 0
    if flags & MAP_SHARED:
        vm_flags |= VM_SHARED | VM_MAYSHARE
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    return vm_flags


def _split_vma(mm: MmStruct, vma: VmArea, addr: int) -> int:
    """__split_vma(): cut at `addr`; the lower half keeps the object."""
    if vma.vm_ops is not None and (err := vma.vm_ops.may_split(vma, addr)):
        return err
    end = vma.vm_end
    mm.resize_vma(vma, vma.vm_start, addr)
    upper = replace(vma, vm_start=addr, vm_end=end, vm_pgoff=vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT))
    mm.insert_vma(upper)
    if upper.vm_ops is not None:
        upper.vm_ops.open(upper)
    return 0


def do_munmap(mm: MmStruct, addr: int, length: int) -> int:
    """munmap(2): 0 or -errno. Holes in the range are no error."""
    if addr & (PAGE_SIZE - 1) or not length or addr + length > mm.task_size:
        return -_EINVAL
    end = addr + ((length + PAGE_SIZE - 1) & -PAGE_SIZE)
    for edge in (addr, end):
        vma = mm.vma_lookup(edge)
        if vma is not None and vma.vm_start < edge and (err := _split_vma(mm, vma, edge)):
            return err
    while (vma := mm.find_vma_intersection(addr, end)) is not None:
        mm.zap_page_range(vma.vm_start, vma.vm_end - vma.vm_start)
        mm.remove_vma(vma)
    return 0


def setup_stack(mm: MmStruct, size: int = 132 << 10) -> VmArea:
    """The stack VMA of a new program at the top of user space (fs/exec.c: setup_arg_pages()), growing down."""
    top = mm.task_size & -PAGE_SIZE
    flags = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_GROWSDOWN
    vma = VmArea(mm, top - size, top, flags, name="[stack]")
    mm.insert_vma(vma)
    return vma
