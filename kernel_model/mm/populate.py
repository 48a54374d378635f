"""Pages that are there before anybody touches them.

Mirrors mm/gup.c of Linux 6.18: populate_vma_page_range (MAP_POPULATE) and faultin_page_range (MADV_POPULATE_READ,
MADV_POPULATE_WRITE). Leaves out: giving mmap_lock up for the time of a fault, poisoned pages.
"""

from __future__ import annotations

from arch.interface import PAGE_SIZE, Prot
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.mm_types import (
    VM_ACCESS_FLAGS,
    VM_FAULT_ERROR,
    VM_IO,
    VM_PFNMAP,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    FaultFlag,
    VmFault,
)
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.sched.requests import Sleeping

_ENOMEM, _EFAULT, _EINVAL = 12, 14, 22


def _faultin_page(faults: FaultHandler, vma: VmArea, address: int, *, write: bool) -> Sleeping:
    """faultin_page(): 0, also where the page is there and allows it, or -errno."""
    walk = vma.vm_mm.tree.walk(address)
    if walk.pa is not None and (not write or walk.prot & Prot.WRITE):
        return 0
    ret = yield from faults.fault_steps(vma, address, FaultFlag.WRITE if write else FaultFlag.NONE)
    if ret & VM_FAULT_ERROR:
        return -_ENOMEM if ret & VmFault.OOM else -_EFAULT
    return 0


def mm_populate(faults: FaultHandler, mm: MmStruct, start: int, length: int) -> Sleeping:
    """__mm_populate() with mmap_lock held for reading: what cannot be had is left out, up to the end of its VMA.

    Memory that may be written is written to, where it is private.
    """
    at, end = start, start + length
    while at < end and (vma := mm.find_vma_intersection(at, end)) is not None:
        address, at = max(at, vma.vm_start), min(end, vma.vm_end)
        if not vma.vm_flags & VM_ACCESS_FLAGS or vma.vm_flags & (VM_IO | VM_PFNMAP):
            continue
        write = vma.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE
        while address < at and not (yield from _faultin_page(faults, vma, address, write=write)):
            address += PAGE_SIZE


def madvise_populate(faults: FaultHandler, mm: MmStruct, start: int, end: int, *, write: bool) -> Sleeping:
    """madvise_populate() with mmap_lock held for reading: 0 or -errno; pages before the place of an error stay.

    ENOMEM: nothing mapped, or no memory; EINVAL: the VMA does not allow it; EFAULT: a signal in user mode.
    """
    for at in range(start, end, PAGE_SIZE):
        vma = mm.vma_lookup(at)
        if vma is None:
            return -_ENOMEM
        if not vma.vm_flags & (VM_WRITE if write else VM_READ) or vma.vm_flags & (VM_IO | VM_PFNMAP):
            return -_EINVAL
        if err := (yield from _faultin_page(faults, vma, at, write=write)):
            return err
    return 0
