"""madvise().

Mirrors mm/madvise.c of Linux 6.18: madvise_walk_vmas, madvise_vma_behavior, madvise_update_vma and what they call. As
in a kernel without huge pages, KSM and memory failures their advice is not valid. There is no reclaim: MADV_FREE and
MADV_COLD change nothing that could be seen before it. Leaves out, by name: MADV_REMOVE, MADV_PAGEOUT, guard regions;
reading files ahead; page tables that MADV_DONTNEED would free on x86-64.
"""

from __future__ import annotations

from enum import IntEnum

from arch.interface import PAGE_SIZE
from kernel_model.errors import NotModelledError
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.mm_types import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_IO,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
)
from kernel_model.mm.populate import madvise_populate
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.mm.vma_change import vma_modify_flags
from kernel_model.sched.requests import Sleeping

_ENOMEM, _EAGAIN, _EINVAL = 12, 11, 22


class Madv(IntEnum):
    """MADV_* (include/uapi/asm-generic/mman-common.h) that a kernel of this configuration knows."""

    NORMAL = 0
    RANDOM = 1
    SEQUENTIAL = 2
    WILLNEED = 3
    DONTNEED = 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    DONTDUMP = 16
    DODUMP = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    COLD = 20
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    DONTNEED_LOCKED = 24
    GUARD_INSTALL = 102
    GUARD_REMOVE = 103


_NOT_MODELLED = (Madv.REMOVE, Madv.PAGEOUT, Madv.GUARD_INSTALL, Madv.GUARD_REMOVE)
_NO_TRACE = (Madv.WILLNEED, Madv.COLD)


def do_madvise(faults: FaultHandler, mm: MmStruct, start: int, length: int, behavior: int) -> int:
    """madvise(2) where nobody else runs: 0 or -errno; see madvise_do_behavior()."""
    end = start + ((length + PAGE_SIZE - 1) & -PAGE_SIZE)
    if not madvise_behavior_valid(behavior) or start % PAGE_SIZE or end >= 1 << 64:
        return -_EINVAL
    ret: int = mm.run(madvise_do_behavior(faults, mm, start, end, behavior)) if end > start else 0
    return ret


def madvise_behavior_valid(behavior: int) -> bool:
    """Whether there is such an advice."""
    return behavior in list(Madv)


def madvise_do_behavior(faults: FaultHandler, mm: MmStruct, start: int, end: int, behavior: int) -> Sleeping:
    """A valid advice for the pages of [start, end), under the lock that it needs: 0 or -errno."""
    if behavior in (Madv.POPULATE_READ, Madv.POPULATE_WRITE):
        return (yield from madvise_populate(faults, mm, start, end, write=behavior == Madv.POPULATE_WRITE))
    return (yield from madvise_walk_vmas(mm, start, end, behavior))


def madvise_walk_vmas(mm: MmStruct, start: int, end: int, behavior: int) -> Sleeping:
    """Apply the advice to every VMA of [start, end): 0 or -errno.

    What is unmapped is passed over and makes the result -ENOMEM; any other error ends the walk.
    """
    unmapped, at = 0, start
    while at < end:
        vma = mm.find_vma(at)
        if vma is None:
            return -_ENOMEM
        if at < vma.vm_start:
            unmapped, at = -_ENOMEM, vma.vm_start
            if at >= end:
                break
        upto = min(vma.vm_end, end)
        if error := (yield from madvise_vma_behavior(vma, at, upto, behavior)):
            return error
        at = upto
    return unmapped


def madvise_vma_behavior(vma: VmArea, start: int, end: int, behavior: int) -> Sleeping:
    """The advice for a part of one VMA, or all of it: 0 or -errno. NotModelledError for what is not modelled."""
    if behavior in _NOT_MODELLED:
        raise NotModelledError(f"madvise(2): MADV_{Madv(behavior).name} is not modelled")
    if behavior in _NO_TRACE:
        return -_EINVAL if behavior == Madv.COLD and vma.vm_flags & VM_PFNMAP else 0
    if behavior in (Madv.FREE, Madv.DONTNEED, Madv.DONTNEED_LOCKED):
        return (yield from _dontneed_free(vma, start, end, behavior))
    flags = _new_flags(vma, behavior)
    if flags < 0 or flags == vma.vm_flags:
        return min(flags, 0)
    return (yield from _update_vma(vma, start, end, flags))


def _dontneed_free(vma: VmArea, start: int, end: int, behavior: int) -> Sleeping:
    """madvise_dontneed_free(): MADV_FREE is for anonymous memory only; its pages stay until reclaim comes."""
    mm = vma.vm_mm
    if vma.vm_flags & VM_PFNMAP:
        return -_EINVAL
    if behavior != Madv.FREE:
        yield from mm.zap_steps(start, end - start)
        return 0
    if vma.vm_ops is not None or vma.vm_file is not None:
        return -_EINVAL
    if mm.tree.entries(start, end - start):
        yield from mm.tlb.tlb_finish_mmu(mm, start, end, freed_tables=False)  # entries become clean and old
    return 0


def _new_flags(vma: VmArea, behavior: int) -> int:
    """The flags that the advice gives the VMA, or -EINVAL where it makes no sense for it."""
    flags = vma.vm_flags
    invalid = {
        Madv.DOFORK: flags & VM_IO,
        Madv.WIPEONFORK: vma.vm_file is not None or flags & VM_SHARED,
        Madv.DODUMP: flags & VM_SPECIAL,
    }
    if invalid.get(Madv(behavior)):
        return -_EINVAL
    removed, added = {
        Madv.NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
        Madv.RANDOM: (VM_SEQ_READ, VM_RAND_READ),
        Madv.SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
        Madv.DONTFORK: (0, VM_DONTCOPY),
        Madv.DOFORK: (VM_DONTCOPY, 0),
        Madv.WIPEONFORK: (0, VM_WIPEONFORK),
        Madv.KEEPONFORK: (VM_WIPEONFORK, 0),
        Madv.DONTDUMP: (0, VM_DONTDUMP),
        Madv.DODUMP: (VM_DONTDUMP, 0),
    }[Madv(behavior)]
    return flags & ~removed | added


def _update_vma(vma: VmArea, start: int, end: int, flags: int) -> Sleeping:
    """madvise_update_vma(): too many VMAs are a temporary lack here (EAGAIN)."""
    mm = vma.vm_mm
    changed = yield from vma_modify_flags(mm, vma, start, end, flags)
    if isinstance(changed, int):
        return -_EAGAIN if changed == -_ENOMEM else changed
    yield from mm.start_write(changed)
    mm.set_flags(changed, flags)
    return 0
