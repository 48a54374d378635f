"""mmap() and munmap().

Mirrors mm/mmap.c and mm/vma.c: do_mmap, get_unmapped_area (top down, no randomisation), mmap_region, do_vmi_munmap,
free_pgtables, the stack of fs/exec.c. Leaves out: resource limits, MAP_LOCKED, sealing. MAP_POPULATE is
the business of callers.
"""

from __future__ import annotations

from typing import Protocol

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.fs.file import FMODE_READ, FMODE_WRITE, MAX_LFS_FILESIZE, File
from kernel_model.mm.mm_types import (
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
)
from kernel_model.mm.pgtable import PMD_SIZE
from kernel_model.mm.shmem import shmem_zero_setup
from kernel_model.mm.tlb import MmuGather
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.mm.vma_change import cut_vma, vma_merge_new_range
from kernel_model.sched.requests import Sleeping

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x3, 0x10, 0x20
MAP_GROWSDOWN, MAP_NORESERVE, MAP_FIXED_NOREPLACE = 0x100, 0x4000, 0x100000
_MAP_TYPE = 0xF
# LEGACY_MAP_MASK of include/linux/mman.h: every flag from MAP_SHARED to MAP_HUGETLB but MAP_FIXED_NOREPLACE, and sizes
_LEGACY_MAP_MASK = 0x7FFF3 | 21 << 26 | 30 << 26
_U64 = (1 << 64) - 1

_ENOMEM, _EEXIST, _EINVAL, _EPERM, _EOVERFLOW = 12, 17, 22, 1, 75
_EACCES, _EOPNOTSUPP = 13, 95
_MMAP_MIN_ADDR = 0x10000
STACK_GUARD_GAP = 256 * PAGE_SIZE


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
    if addr and _MMAP_MIN_ADDR <= addr <= mm.task_size - length:
        above = mm.find_vma(addr)
        if above is None or addr + length <= above.usable_below(STACK_GUARD_GAP):
            return addr
    where = mm.holes.highest_hole(_MMAP_MIN_ADDR, mm.mmap_base, length, STACK_GUARD_GAP)
    if where is None:  # a very long mapping may fit only above the base
        low = mm.task_size // 3 & -PAGE_SIZE
        where = mm.holes.lowest_hole(low, mm.task_size, length, STACK_GUARD_GAP)
    return -_ENOMEM if where is None else where


def do_mmap(
    mm: MmStruct,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    file: MappableFile | File | None = None,
    pgoff: int = 0,
    name: str = "",
) -> int:
    """mmap(2) where nobody else runs: address of the mapping or -errno; see mmap_steps()."""
    where: int = mm.run(mmap_steps(mm, addr, length, prot, flags, file, pgoff, name))
    return where


def mmap_steps(
    mm: MmStruct,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    file: MappableFile | File | None = None,
    pgoff: int = 0,
    name: str = "",
) -> Sleeping:
    """do_mmap() with mmap_lock held for writing: address of the mapping or -errno.

    `addr` and `length` in bytes, `pgoff` in pages. A `name` without a file stands for that of a file whose contents
    are filled in by the caller.
    """
    if not length:
        return -_EINVAL
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if not flags & MAP_FIXED:  # round_hint_to_min()
        addr &= -PAGE_SIZE
        if 0 < addr < _MMAP_MIN_ADDR:
            addr = _MMAP_MIN_ADDR
    length = ((length + PAGE_SIZE - 1) & -PAGE_SIZE) & _U64
    if not length:
        return -_ENOMEM
    if pgoff + (length >> PAGE_SHIFT) > _U64:
        return -_EOVERFLOW
    if mm.map_count > mm.max_map_count:
        return -_ENOMEM
    if file is None or isinstance(file, File):
        where = mm_get_unmapped_area(mm, addr, length, flags)
    else:
        where = file.get_unmapped_area(mm, addr, length, pgoff, flags)
    if where < 0:
        return where
    if err := check_place(mm, where, length, flags):
        return err
    vm_flags = _vm_flags(prot, flags)
    if isinstance(file, File):
        vm_flags = _file_vm_flags(file, vm_flags, flags, length, pgoff)
        if vm_flags < 0:
            return vm_flags
    else:
        shared = flags & _MAP_TYPE == MAP_SHARED
        if not shared and flags & _MAP_TYPE != MAP_PRIVATE:
            return -_EINVAL
        if flags & MAP_GROWSDOWN and (shared or file is not None):
            return -_EINVAL
        if file is None and not name:
            pgoff = 0 if shared else where >> PAGE_SHIFT
    vma = VmArea(mm, where, where + length, vm_flags, pgoff, name=name, vm_file=file)
    return (yield from _mmap_region(mm, vma, file))


def _file_vm_flags(file: File, vm_flags: int, flags: int, length: int, pgoff: int) -> int:
    """The checks of do_mmap() that a regular file adds: `vm_flags` as the way it was opened allows, or -errno."""
    if length > MAX_LFS_FILESIZE or pgoff > (MAX_LFS_FILESIZE - length) >> PAGE_SHIFT:  # file_mmap_ok()
        return -_EOVERFLOW
    kind = flags & _MAP_TYPE
    if kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
        return -_EINVAL
    if kind == MAP_SHARED_VALIDATE and flags & ~_LEGACY_MAP_MASK:
        return -_EOPNOTSUPP
    if kind != MAP_PRIVATE and not file.f_mode & FMODE_WRITE:
        if vm_flags & VM_WRITE:
            return -_EACCES
        vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    if not file.f_mode & FMODE_READ:
        return -_EACCES
    return -_EINVAL if vm_flags & VM_GROWSDOWN else vm_flags


def _mmap_region(mm: MmStruct, vma: VmArea, file: MappableFile | File | None) -> Sleeping:
    """mmap_region(): what was there goes, then a neighbour is extended or `vma` becomes part of the mm."""
    if (gathered := (yield from vms_gather_munmap_vmas(mm, vma.vm_start, vma.vm_end))) and isinstance(gathered, int):
        return gathered
    yield from vms_complete_munmap_vmas(mm, gathered)
    if vma.vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE:  # accountable_mapping()
        vma.vm_flags |= VM_ACCOUNT
    where = vma.vm_start
    if (yield from vma_merge_new_range(mm, vma)) is not None:
        return where
    if file is not None and (err := file.mmap(vma)):
        return err
    zero = shmem_zero_setup(vma) if file is None and vma.vm_flags & VM_SHARED else None
    try:
        mm.alloc_vma(vma)
        yield from mm.start_write(vma)
        mm.link_vma(vma)
    finally:
        if zero is not None:
            zero.fput()  # it is the VMA's alone
    return where


def check_place(mm: MmStruct, where: int, length: int, flags: int) -> int:
    """The checks of __get_unmapped_area() on what was found, and that of MAP_FIXED_NOREPLACE: 0 or -errno."""
    if where + length > mm.task_size:
        return -_ENOMEM
    if where & (PAGE_SIZE - 1):
        return -_EINVAL
    if where < _MMAP_MIN_ADDR:
        return -_EPERM
    overlaps = mm.find_vma_intersection(where, where + length) is not None
    return -_EEXIST if overlaps and flags & MAP_FIXED_NOREPLACE else 0


def calc_vm_prot_bits(prot: int) -> int:
    """VM_READ, VM_WRITE and VM_EXEC of PROT_*."""
    return prot & (PROT_READ | PROT_WRITE | PROT_EXEC)  # the same bits


def _vm_flags(prot: int, flags: int) -> int:
    """calc_vm_prot_bits() and the VM_MAY* defaults of do_mmap()."""
    vm_flags = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | calc_vm_prot_bits(prot)
    if flags & MAP_SHARED:  # MAP_SHARED_VALIDATE has the bit too
        vm_flags |= VM_SHARED | VM_MAYSHARE
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_NORESERVE:
        vm_flags |= VM_NORESERVE
    return vm_flags


def do_munmap(mm: MmStruct, addr: int, length: int) -> int:
    """munmap(2) where nobody else runs: 0 or -errno."""
    ret: int = mm.run(munmap_steps(mm, addr, length))
    return ret


def munmap_steps(mm: MmStruct, addr: int, length: int) -> Sleeping:
    """do_vmi_munmap() with mmap_lock held for writing: 0 or -errno. Holes in the range are no error."""
    if addr & (PAGE_SIZE - 1) or addr > mm.task_size or length > mm.task_size - addr or not length:
        return -_EINVAL
    end = addr + ((length + PAGE_SIZE - 1) & -PAGE_SIZE)
    gathered = yield from vms_gather_munmap_vmas(mm, addr, end)
    if isinstance(gathered, int):
        return gathered
    yield from vms_complete_munmap_vmas(mm, gathered)
    return 0


def vms_gather_munmap_vmas(mm: MmStruct, start: int, end: int) -> Sleeping:
    """Take every VMA out of the tree that lies in [start, end), cutting those at its edges; the list, or -errno.

    What was cut stays cut where a later step fails; VMAs that were detached before are attached again.
    """
    vma = mm.find_vma_intersection(start, end)
    if vma is None:
        return []
    if vma.vm_start < start:
        if end < vma.vm_end and mm.map_count >= mm.max_map_count:
            return -_ENOMEM
        if err := (yield from cut_vma(mm, vma, start, new_below=True)):
            return err
    gathered: list[VmArea] = []
    at = start
    while (vma := mm.find_vma_intersection(at, end)) is not None:
        if vma.vm_end > end and (err := (yield from cut_vma(mm, vma, end, new_below=False))):
            for old in gathered:  # reattach_vmas()
                mm.objects.attach_vma(old.addr)
            return err
        yield from mm.start_write(vma)
        yield from mm.detach(vma)
        gathered.append(vma)
        at = vma.vm_end
    for vma in gathered:
        mm.unlink_vma(vma)
    return gathered


def vms_complete_munmap_vmas(mm: MmStruct, gathered: list[VmArea]) -> Sleeping:
    """Free pages and structs of VMAs that are out of the tree."""
    yield from clear_ptes(mm, gathered)
    yield from remove_vmas(mm, gathered)


def clear_ptes(mm: MmStruct, gathered: list[VmArea]) -> Sleeping:
    """vms_clear_ptes(): unmap_vmas(), free_pgtables() between the VMAs that are left, tlb_finish_mmu()."""
    tlb = MmuGather(mm)
    for vma in gathered:
        tlb.unmap(vma.vm_start, vma.vm_end - vma.vm_start)
    if gathered:
        free_pgtables(tlb, mm, gathered)
    yield from tlb.finish(mm.tlb)


def free_pgtables(tlb: MmuGather, mm: MmStruct, gathered: list[VmArea]) -> None:
    """Free the page tables of VMAs that are out of the tree; those that serve a neighbour too stay."""
    below, above = mm.vma_before(gathered[0].vm_start), mm.find_vma(gathered[-1].vm_end)
    floor, ceiling = below.vm_end if below else 0, above.vm_start if above else 0
    at = 0
    while at < len(gathered):
        first = last = gathered[at]
        while at + 1 < len(gathered) and gathered[at + 1].vm_start <= last.vm_end + PMD_SIZE:
            at += 1
            last = gathered[at]
        at += 1
        upto = gathered[at].vm_start if at < len(gathered) else ceiling
        tlb.free_pgd_range(first.vm_start, last.vm_end, floor, upto)


def remove_vmas(mm: MmStruct, gathered: list[VmArea]) -> Sleeping:
    """remove_vma() of each."""
    for vma in gathered:
        yield from mm.close_vma(vma)


def setup_stack(mm: MmStruct, size: int = 132 << 10) -> VmArea:
    """The stack VMA of a new program at the top of user space (fs/exec.c: setup_arg_pages()), growing down."""
    top = mm.task_size & -PAGE_SIZE
    flags = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_GROWSDOWN | VM_ACCOUNT
    vma = VmArea(mm, top - size, top, flags, (top - size) >> PAGE_SHIFT, name="[stack]")
    mm.insert_vma(vma)
    return vma
