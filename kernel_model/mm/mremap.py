"""mremap(): mappings that grow, shrink and move.

Mirrors mm/mremap.c and, of mm/vma.c, copy_vma and vma_merge_extend (Linux 6.18, with the moving of several VMAs at
once that 6.17 brought). Moving takes page-table entries along, whole tables where 2 MiB lie alike; pages stay where
they are. Leaves out: huge pages, userfaultfd, sealing, memory locks, limits, moving 1 GiB at once, try_realign_addr().
Shrinking in place is munmap() and therefore guest text's (images/kernel/mm/mremap.c).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.mm.mm_types import VM_DONTEXPAND, VM_MAYSHARE, VM_PFNMAP, VM_SHARED
from kernel_model.mm.mmap import MAP_FIXED, MAP_SHARED, check_place, mm_get_unmapped_area, munmap_steps
from kernel_model.mm.pgtable import PMD_SIZE
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.mm.vma_change import vma_merge_new_range
from kernel_model.sched.requests import Sleeping

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4

_ENOMEM, _EFAULT, _EINVAL = 12, 14, 22
_U64 = (1 << 64) - 1


@dataclass(slots=True)
class VmaRemap:
    """struct vma_remap_struct: all in bytes, lengths page aligned; `new_addr` counts where the flags imply one."""

    mm: MmStruct
    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int
    vma: VmArea | None = None

    @property
    def implies_new_addr(self) -> bool:
        """vrm_implies_new_addr(): the mapping will move in any case."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    def move_only(self) -> bool:
        """vrm_move_only()"""
        return bool(self.flags & MREMAP_FIXED) and self.old_len == self.new_len


def do_mremap(mm: MmStruct, addr: int, old_len: int, new_len: int, flags: int, new_addr: int = 0) -> int:
    """mremap(2) where nobody else runs: the new address or -errno."""
    old_len, new_len = ((n + PAGE_SIZE - 1) & -PAGE_SIZE & _U64 for n in (old_len, new_len))
    if error := check_mremap_params(mm, addr, old_len, new_len, flags, new_addr):
        return error
    if old_len > new_len and not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        if mm.vma_lookup(addr) is None:
            return -_EFAULT
        return mm.run(munmap_steps(mm, addr + new_len, old_len - new_len)) or addr
    where: int = mm.run(mremap_steps(mm, addr, old_len, new_len, flags, new_addr))
    return where


def check_mremap_params(mm: MmStruct, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
    """What can be said before mmap_lock is taken; lengths are page aligned. 0 or -errno."""
    if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) or addr % PAGE_SIZE:
        return -_EINVAL
    if not 0 < new_len <= mm.task_size:
        return -_EINVAL
    if not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return 0
    if new_addr > mm.task_size - new_len or new_addr % PAGE_SIZE or not flags & MREMAP_MAYMOVE:
        return -_EINVAL
    if flags & MREMAP_DONTUNMAP and old_len != new_len:
        return -_EINVAL
    if addr + old_len & _U64 > new_addr and new_addr + new_len > addr:
        return -_EINVAL
    return -_ENOMEM if mm.map_count + 2 >= mm.max_map_count - 3 else 0


def mremap_steps(mm: MmStruct, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> Sleeping:
    """do_mremap() with mmap_lock held for writing, but for shrinking in place: the new address or -errno.

    EFAULT: not mapped, or more than one VMA, or one that may not grow; ENOMEM: no room, too many VMAs; EINVAL.
    """
    vrm = VmaRemap(mm, addr, old_len, new_len, flags, new_addr)
    if vrm.move_only:
        return (yield from _remap_move(vrm))
    vrm.vma = mm.vma_lookup(addr)
    if error := _check_prep_vma(vrm):
        return error
    if vrm.implies_new_addr:
        return (yield from _mremap_to(vrm))
    return addr if old_len == new_len else (yield from _expand_vma(vrm))


def _check_prep_vma(vrm: VmaRemap) -> int:
    """check_prep_vma(): 0 or why this VMA cannot be moved or made larger."""
    vma = vrm.vma
    if vma is None:
        return -_EFAULT
    if vrm.new_len <= vrm.old_len and not vrm.implies_new_addr:
        return 0
    fixed_size = vma.vm_flags & (VM_DONTEXPAND | VM_PFNMAP)
    if not vrm.old_len and not vma.vm_flags & (VM_SHARED | VM_MAYSHARE):
        return -_EINVAL
    if vrm.flags & MREMAP_DONTUNMAP and fixed_size:
        return -_EINVAL
    old_len = min(vrm.old_len, vrm.new_len)  # what is cut off may belong to other VMAs
    if old_len > vma.vm_end - vrm.addr:
        return -_EFAULT
    if old_len == vrm.new_len:
        return 0
    if _pgoff(vma, vrm.addr) + (vrm.new_len >> PAGE_SHIFT) > _U64:
        return -_EINVAL
    return -_EFAULT if fixed_size else 0


def _pgoff(vma: VmArea, addr: int) -> int:
    return vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT)


def _remap_move(vrm: VmaRemap) -> Sleeping:
    """remap_move(): to a fixed place without another size, all VMAs of the range with the holes between them."""
    mm, at, end = vrm.mm, vrm.addr, vrm.addr + vrm.old_len
    target, result, last_end = vrm.new_addr, -_EFAULT, vrm.addr
    first = True
    while at < end and (vma := mm.find_vma_intersection(at, end)) is not None:
        start = max(vma.vm_start, vrm.addr)
        if first and vrm.addr < vma.vm_start:
            return -_EFAULT
        length, last = min(end, vma.vm_end) - start, vma.vm_end
        target += 0 if first else vma.vm_start - last_end
        # a file's own idea of where mappings may lie could break the order; here those may not grow either
        if vma.vm_flags & VM_DONTEXPAND and (not first or vma.vm_end < end):
            return -_EFAULT
        part = VmaRemap(mm, start, length, length, vrm.flags, target, vma)
        where = _check_prep_vma(part) or (yield from _mremap_to(part))
        if where < 0:
            return where
        if first:
            result = where
        first, at, last_end, target = False, start + length, last, where + length
    return result


def _mremap_to(vrm: VmaRemap) -> Sleeping:
    """mremap_to(): what is at a fixed target goes, then what is cut off, then the rest moves."""
    mm = vrm.mm
    if vrm.flags & MREMAP_FIXED:
        if error := (yield from munmap_steps(mm, vrm.new_addr, vrm.new_len)):
            return error
    if vrm.old_len > vrm.new_len:
        if error := (yield from munmap_steps(mm, vrm.addr + vrm.new_len, vrm.old_len - vrm.new_len)):
            return error
        vrm.old_len = vrm.new_len
    vrm.vma = mm.vma_lookup(vrm.addr)  # it may have been cut
    if vrm.vma is None:
        return -_EFAULT
    return _set_new_addr(vrm, vrm.vma) or (yield from _move_vma(vrm, vrm.vma))


def _set_new_addr(vrm: VmaRemap, vma: VmArea) -> int:
    """vrm_set_new_addr(): get_unmapped_area() of the file, if any; 0 or -errno."""
    mm, hint = vrm.mm, vrm.new_addr if vrm.implies_new_addr else 0
    flags = MAP_FIXED if vrm.flags & MREMAP_FIXED else 0
    flags |= MAP_SHARED if vma.vm_flags & VM_MAYSHARE else 0
    file: Any = vma.vm_file
    if hasattr(file, "get_unmapped_area"):
        where: int = file.get_unmapped_area(mm, hint, vrm.new_len, _pgoff(vma, vrm.addr), flags)
    else:
        where = mm_get_unmapped_area(mm, hint, vrm.new_len, flags)
    if where < 0:
        return where
    vrm.new_addr = where
    return check_place(mm, where, vrm.new_len, 0)


def _expand_vma(vrm: VmaRemap) -> Sleeping:
    """expand_vma(): in place where the range ends with its VMA and there is room behind it, elsewhere otherwise."""
    mm, vma, delta = vrm.mm, vrm.vma, vrm.new_len - vrm.old_len
    assert vma is not None
    end = vma.vm_end + delta
    free = end <= _U64 and mm.find_vma_intersection(vma.vm_end, end) is None
    at_end = vma.vm_end - vrm.addr == vrm.old_len
    if at_end and free and not check_place(mm, vma.vm_start, end - vma.vm_start, 0):
        more = replace(vma, addr=0, vm_start=vma.vm_end, vm_end=end, vm_pgoff=_pgoff(vma, vma.vm_end))
        extended = yield from vma_merge_new_range(mm, more)  # vma_merge_extend()
        return -_ENOMEM if extended is None else vrm.addr
    if not vrm.flags & MREMAP_MAYMOVE:
        return -_ENOMEM
    return _set_new_addr(vrm, vma) or (yield from _move_vma(vrm, vma))


def _move_vma(vrm: VmaRemap, vma: VmArea) -> Sleeping:
    """move_vma(): a second VMA at the new place takes over the entries, then the old one goes (or stays, empty)."""
    mm, end = vrm.mm, vrm.addr + vrm.old_len
    if mm.map_count >= mm.max_map_count - 3:
        return -_ENOMEM
    if vma.vm_ops is not None:
        for cut in (vrm.addr, end):
            if vma.vm_start < cut < vma.vm_end and (error := vma.vm_ops.may_split(vma, cut)):
                return error
    yield from mm.start_write(vma)  # no faults meanwhile
    whole = (vma.vm_start, vma.vm_end) == (vrm.addr, end)
    new = yield from _copy_vma(vma, vrm.new_addr, vrm.new_len, _pgoff(vma, vrm.addr))
    merged_with_itself = new.vm_start <= vrm.addr < new.vm_end
    yield from move_page_tables(mm, vrm.addr, vrm.new_addr, vrm.old_len)
    refuse = getattr(new.vm_ops, "mremap", None)  # vm_ops->mremap
    if refuse is not None and (error := refuse(new)):
        yield from move_page_tables(mm, vrm.new_addr, vrm.addr, vrm.old_len)
        yield from munmap_steps(mm, vrm.new_addr, vrm.new_len)
        return error
    if not vrm.flags & MREMAP_DONTUNMAP:
        if vrm.old_len:  # else the shared mapping was duplicated
            yield from munmap_steps(mm, vrm.addr, vrm.old_len)
        return vrm.new_addr
    if whole and not merged_with_itself:
        vma.anon_vma = None  # dontunmap_complete(); that 6.18.44 leaves VM_ACCOUNT set was seen there
    return vrm.new_addr


def _copy_vma(vma: VmArea, addr: int, length: int, pgoff: int) -> Sleeping:
    """copy_vma(): a neighbour of [addr, addr + length) that took it over, which may be `vma` itself, or a new VMA.

    Memory that was never written is counted by its new address, so that it can be merged there.
    """
    mm = vma.vm_mm
    if vma.vm_ops is None and vma.vm_file is None and vma.anon_vma is None:
        pgoff = addr >> PAGE_SHIFT
    new = replace(vma, addr=0, vm_start=addr, vm_end=addr + length, vm_pgoff=pgoff)
    merged = yield from vma_merge_new_range(mm, new)
    if merged is not None:
        return merged
    mm.alloc_vma(new)
    if new.vm_ops is not None:
        new.vm_ops.open(new)
    yield from mm.start_write(new)  # vma_link(): no faults there either
    mm.link_vma(new)
    return new


def move_page_tables(mm: MmStruct, old: int, new: int, length: int) -> Sleeping:
    """Entries of [old, old + length) go to [new, ...), which maps nothing; the old translations are flushed.

    2 MiB that begin alike on both sides go with their table (move_normal_pmd()) if none is at the new place.
    """
    tree, end, moved = mm.tree, old + length, False
    while old < end:
        extent = min(end - old, PMD_SIZE - old % PMD_SIZE, PMD_SIZE - new % PMD_SIZE)
        if extent == PMD_SIZE and tree.move_table(old, new):
            moved = True
        else:
            for address, entry in tree.entries(old, extent):
                tree.unmap_page(address)
                tree.set_pte(address - old + new, entry)
                moved = True
        old, new = old + extent, new + extent
    if moved:
        yield from mm.tlb.flush_tlb_range(mm, end - length, end)
