"""The heap, whose end brk() moves.

Mirrors mm/mmap.c (brk) and mm/vma.c (do_brk_flags) of Linux 6.18. Leaves out: RLIMIT_DATA, locking into memory.
"""

from __future__ import annotations

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.mm.mm_types import VM_ACCOUNT, VM_MAYEXEC, VM_MAYREAD, VM_MAYWRITE, VM_READ, VM_WRITE
from kernel_model.mm.mmap import STACK_GUARD_GAP, check_place, vms_complete_munmap_vmas, vms_gather_munmap_vmas
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.mm.vma_change import vma_merge_new_range
from kernel_model.sched.requests import Sleeping

_ENOMEM = 12
_HEAP_FLAGS = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT


def do_brk(mm: MmStruct, brk: int) -> int:
    """brk(2) where nobody else runs: the end of the heap afterwards, `brk` where that was possible."""
    vms: list[VmArea] = mm.run(brk_steps(mm, brk))
    mm.run(vms_complete_munmap_vmas(mm, vms))
    return mm.brk


def brk_steps(mm: MmStruct, brk: int) -> Sleeping:
    """Move the end of the heap to `brk` if that can be, with mmap_lock held for writing; mm.brk says where it is then.

    The VMAs of what was cut off: out of the tree, to be completed once the lock has been downgraded.
    """
    old, new = (mm.brk + PAGE_SIZE - 1) & -PAGE_SIZE, (brk + PAGE_SIZE - 1) & -PAGE_SIZE
    if brk < mm.start_brk:
        return []
    gathered: list[VmArea] = []
    if new < old:
        if mm.find_vma_intersection(new, old) is None:
            return []
        taken = yield from vms_gather_munmap_vmas(mm, new, old)
        if isinstance(taken, int):
            return []
        gathered = taken
    elif new > old:
        if check_place(mm, old, new - old, 0):
            return []
        above = mm.find_vma(old)
        if above is not None and new + PAGE_SIZE > above.usable_below(STACK_GUARD_GAP):
            return []
        if (yield from do_brk_flags(mm, old, new - old)):
            return []
    mm.set_brk(brk)
    return gathered


def do_brk_flags(mm: MmStruct, addr: int, length: int) -> Sleeping:
    """Anonymous memory at [addr, addr + length), which is free: more of the heap below it or a new VMA. 0 or -errno."""
    if mm.map_count > mm.max_map_count:
        return -_ENOMEM
    vma = VmArea(mm, addr, addr + length, _HEAP_FLAGS, addr >> PAGE_SHIFT)
    if addr > mm.start_brk and (yield from vma_merge_new_range(mm, vma, just_expand=True)) is not None:
        return 0
    mm.alloc_vma(vma)
    yield from mm.start_write(vma)
    mm.link_vma(vma)
    return 0
