"""Splitting and merging VMAs, and which of them are locked for that.

Mirrors mm/vma.c (Linux 6.18): __split_vma, vma_modify_flags, vma_merge_new_range, vma_merge_existing_range,
vma_expand, commit_merge. Leaves out: memory policies, userfaultfd, names of anonymous memory, VM_SOFTDIRTY, the
reverse maps' trees. mmap_lock is held for writing throughout; a generator waits for the readers of
single VMAs through mm.start_write and mm.detach.
"""

from __future__ import annotations

from dataclasses import replace

from arch.interface import PAGE_SHIFT
from kernel_model.mm.mm_types import VM_ACCESS_FLAGS, VM_SPECIAL
from kernel_model.mm.vma import AnonVma, MmStruct, VmArea
from kernel_model.sched.requests import Sleeping

_ENOMEM = 12


# -- what may be merged ----------------------------------------------------------------------------------------------


def _compatible(vma: VmArea, like: VmArea, vm_flags: int) -> bool:
    """is_mergeable_vma(): the same kind of memory as `like` with `vm_flags`."""
    same = vma.vm_file is like.vm_file and (vma.vm_file is not None or vma.name == like.name)
    return same and vma.vm_flags == vm_flags


def _anon_compatible(target: AnonVma | None, source: AnonVma | None) -> bool:
    """is_mergeable_anon_vma(): one of them is passed on unless processes share it, or they are the same."""
    if target is None and source is not None:
        return not source.forked
    if target is not None and source is None:
        return not target.forked
    return target is source


def _left(prev: VmArea | None, like: VmArea, start: int, pgoff: int, vm_flags: int) -> bool:
    """can_vma_merge_left(): `prev` can take a range that begins at `start`, page `pgoff` of its file."""
    return (
        prev is not None
        and prev.vm_end == start
        and _compatible(prev, like, vm_flags)
        and prev.vm_pgoff + ((prev.vm_end - prev.vm_start) >> PAGE_SHIFT) == pgoff
        and _anon_compatible(prev.anon_vma, like.anon_vma)
    )


def _right(following: VmArea | None, like: VmArea, end: int, pgoff: int, vm_flags: int) -> bool:
    """can_vma_merge_before(): `following` can take a range up to `end`, which is page `pgoff` of its file."""
    return (
        following is not None
        and following.vm_start == end
        and _compatible(following, like, vm_flags)
        and following.vm_pgoff == pgoff
        and _anon_compatible(following.anon_vma, like.anon_vma)
    )


def _both(prev: VmArea, following: VmArea) -> bool:
    """The neighbours' anonymous memory agrees, which each one's agreeing with the middle does not say."""
    return prev.anon_vma is None or following.anon_vma is None or prev.anon_vma is following.anon_vma


def _removable(vma: VmArea) -> bool:
    """can_merge_remove_vma(): nobody wants to be told that it closes."""
    return vma.vm_ops is None or not vma.vm_ops.has_close


def reusable_anon_vma(mm: MmStruct, vma: VmArea) -> AnonVma | None:
    """find_mergeable_anon_vma(): a neighbour's that `vma` can use, so that mprotect() can join them later."""
    following = mm.find_vma(vma.vm_end)
    if following is not None and (found := _neighbours(vma, following, following)):
        return found
    prev = mm.vma_before(vma.vm_start)
    return _neighbours(prev, vma, prev) if prev is not None else None


def _neighbours(low: VmArea, high: VmArea, old: VmArea) -> AnonVma | None:
    """reusable_anon_vma() and anon_vma_compatible(): like merging, but for the access flags."""
    alike = (
        low.vm_end == high.vm_start
        and low.vm_file is high.vm_file
        and not (low.vm_flags ^ high.vm_flags) & ~VM_ACCESS_FLAGS
        and high.vm_pgoff == low.vm_pgoff + ((low.vm_end - low.vm_start) >> PAGE_SHIFT)
    )
    return old.anon_vma if alike and old.anon_vma is not None and not old.anon_vma.forked else None


# -- merging ---------------------------------------------------------------------------------------------------------


def _remove_merged(mm: MmStruct, vma: VmArea) -> Sleeping:
    """vma_complete(): another VMA covers what was `vma`'s."""
    yield from mm.detach(vma)
    mm.forget_vma(vma, closed=False)
    yield from mm.free_vma(vma.addr)


def vma_merge_new_range(mm: MmStruct, new: VmArea, *, just_expand: bool = False) -> Sleeping:
    """The VMA that was extended over the range of `new`, which is in no tree and has no pages; None where none can.

    `new` may be a copy that mremap() makes, with the anon_vma of its original. `just_expand`: only the VMA below.
    """
    if new.vm_flags & VM_SPECIAL:
        return None
    prev, following = mm.vma_before(new.vm_start), mm.find_vma(new.vm_end)
    size = (new.vm_end - new.vm_start) >> PAGE_SHIFT
    left = _left(prev, new, new.vm_start, new.vm_pgoff, new.vm_flags)
    right = not just_expand and _right(following, new, new.vm_end, new.vm_pgoff + size, new.vm_flags)
    if left and prev is not None:
        if right and following is not None and _both(prev, following) and _removable(following):
            yield from mm.start_write(prev)
            yield from mm.start_write(following)
            prev.anon_vma = prev.anon_vma or following.anon_vma or new.anon_vma
            end = following.vm_end
            mm.unlink_vma(following)
            mm.set_range(prev, prev.vm_start, end, prev.vm_pgoff)
            yield from _remove_merged(mm, following)
            return prev
        yield from mm.start_write(prev)
        prev.anon_vma = prev.anon_vma or new.anon_vma
        mm.set_range(prev, prev.vm_start, new.vm_end, prev.vm_pgoff)
        return prev
    if right and following is not None:
        yield from mm.start_write(following)
        following.anon_vma = following.anon_vma or new.anon_vma
        mm.set_range(following, new.vm_start, following.vm_end, new.vm_pgoff)
        return following
    return None


def vma_merge_existing_range(mm: MmStruct, middle: VmArea, start: int, end: int, vm_flags: int) -> Sleeping:
    """The neighbour that took over [start, end) of `middle`, whose flags become `vm_flags`; None where none can."""
    left_side, right_side = start == middle.vm_start, end == middle.vm_end
    if vm_flags & VM_SPECIAL or not (left_side or right_side):
        return None
    prev, following = mm.vma_before(middle.vm_start), mm.find_vma(middle.vm_end)
    pgoff = middle.vm_pgoff + ((start - middle.vm_start) >> PAGE_SHIFT)
    size = (end - start) >> PAGE_SHIFT
    left = left_side and _left(prev, middle, start, pgoff, vm_flags)
    right = right_side and _right(following, middle, end, pgoff + size, vm_flags)
    if left and right:
        assert prev is not None and following is not None
        right = _both(prev, following) and _removable(following)
    whole = left_side and right_side
    if not (left or right) or (whole and not _removable(middle)):
        return None
    yield from mm.start_write(middle)
    if right:
        assert following is not None
        yield from mm.start_write(following)
    if left:
        assert prev is not None
        yield from mm.start_write(prev)
        return (yield from _into_prev(mm, prev, middle, following if right else None, end))
    assert following is not None
    following.anon_vma = following.anon_vma or middle.anon_vma
    if whole:
        mm.unlink_vma(middle)
    else:
        mm.set_range(middle, middle.vm_start, start, middle.vm_pgoff)
    mm.set_range(following, start, following.vm_end, following.vm_pgoff - size)
    if whole:
        yield from _remove_merged(mm, middle)
    return following


def _into_prev(mm: MmStruct, prev: VmArea, middle: VmArea, following: VmArea | None, end: int) -> Sleeping:
    """`prev` grows to `end`, or over `following` as well."""
    gone = []
    prev.anon_vma = prev.anon_vma or (following.anon_vma if following is not None else None) or middle.anon_vma
    if end == middle.vm_end:
        mm.unlink_vma(middle)
        gone.append(middle)
    else:
        pgoff = middle.vm_pgoff + ((end - middle.vm_start) >> PAGE_SHIFT)
        mm.set_range(middle, end, middle.vm_end, pgoff)
    if following is not None:
        end = following.vm_end
        mm.unlink_vma(following)
        gone.append(following)
    mm.set_range(prev, prev.vm_start, end, prev.vm_pgoff)
    for vma in gone:
        yield from _remove_merged(mm, vma)
    return prev


# -- splitting -------------------------------------------------------------------------------------------------------


def cut_vma(mm: MmStruct, vma: VmArea, addr: int, *, new_below: bool) -> Sleeping:
    """__split_vma(): cut at `addr`; a new VMA gets the part below or above it. 0 or -errno."""
    if vma.vm_ops is not None and (err := vma.vm_ops.may_split(vma, addr)):
        return err
    start, end, pgoff = vma.vm_start, vma.vm_end, vma.vm_pgoff
    upper = pgoff + ((addr - start) >> PAGE_SHIFT)
    if new_below:
        new = mm.alloc_vma(replace(vma, vm_end=addr))
    else:
        new = mm.alloc_vma(replace(vma, vm_start=addr, vm_pgoff=upper))
    if new.vm_ops is not None:
        new.vm_ops.open(new)
    yield from mm.start_write(vma)
    yield from mm.start_write(new)
    if new_below:
        mm.set_range(vma, addr, end, upper)
    else:
        mm.set_range(vma, start, addr, pgoff)
    mm.link_vma(new)
    return 0


def split_vma(mm: MmStruct, vma: VmArea, addr: int, *, new_below: bool) -> Sleeping:
    """cut_vma() within the limit on the number of VMAs."""
    if mm.map_count >= mm.max_map_count:
        return -_ENOMEM
    return (yield from cut_vma(mm, vma, addr, new_below=new_below))


def vma_modify_flags(mm: MmStruct, vma: VmArea, start: int, end: int, vm_flags: int) -> Sleeping:
    """The VMA that is to have `vm_flags` for [start, end) of `vma`: a neighbour that took it over (and has them), or
    `vma` cut to it (which has not). Or -errno."""
    merged = yield from vma_merge_existing_range(mm, vma, start, end, vm_flags)
    if merged is not None:
        return merged
    if vma.vm_start < start and (err := (yield from split_vma(mm, vma, start, new_below=True))):
        return err
    if vma.vm_end > end and (err := (yield from split_vma(mm, vma, end, new_below=False))):
        return err
    return vma
