"""fork(): an address space becomes two.

Mirrors kernel/fork.c (dup_mm), mm/mmap.c (dup_mmap) and mm/memory.c (copy_page_range) of Linux 6.18. Page tables are
copied only where faults could not fill them again (vma_needs_copy()); private pages become read-only on both sides and
belong to neither until one of them is copied. Leaves out: pinned pages, hwpoison, huge pages, userfaultfd, reuse of an
ancestor's anon_vma.
"""

from __future__ import annotations

from dataclasses import replace

from arch.interface import Prot
from kernel_model.mm.mm_types import (
    VM_DONTCOPY,
    VM_MAYWRITE,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_SHARED,
    VM_WIPEONFORK,
)
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.vma import AnonVma, MmStruct, VmArea
from kernel_model.sched.requests import Sleeping


def dup_mm(oldmm: MmStruct, name: str) -> Sleeping:
    """A new mm with copies of `oldmm`'s mappings; the caller holds `oldmm`'s mmap_lock for writing.

    `flush` is the parent's; what waits for locks is the caller's to set. OutOfMemoryError where tables do not fit: the
    half-made mm is gone then.
    """
    mm = MmStruct(oldmm.init_mm, oldmm.objects, name)
    mm.flush, mm.mmap_base, mm.max_map_count = oldmm.flush, oldmm.mmap_base, oldmm.max_map_count
    mm.set_sigtramp(oldmm.vdso_sigtramp)
    mm.start_heap(oldmm.start_brk)
    mm.set_brk(oldmm.brk)
    try:
        yield from _dup_mmap(mm, oldmm)
    except OutOfMemoryError:
        mm.exit_mmap()
        raise
    return mm


def _dup_mmap(mm: MmStruct, oldmm: MmStruct) -> Sleeping:
    """dup_mmap(): copy every VMA that may be copied; at the end the parent's CPUs forget what they could write."""
    try:
        for old in oldmm.vmas():
            yield from oldmm.start_write(old)
            if not old.vm_flags & VM_DONTCOPY:
                _dup_vma(mm, old)
    finally:
        yield from oldmm.tlb.flush_tlb_mm(oldmm)


def _dup_vma(mm: MmStruct, old: VmArea) -> None:
    wipe = bool(old.vm_flags & VM_WIPEONFORK)
    anon_vma = AnonVma(forked=True) if old.anon_vma is not None and not wipe else None  # anon_vma_fork()
    vma = replace(old, vm_mm=mm, addr=0, anon_vma=anon_vma)
    mm.insert_vma(vma)
    if vma.vm_ops is not None:
        vma.vm_ops.open(vma)
    if not wipe:
        _copy_page_range(vma, old)


def _vma_needs_copy(old: VmArea) -> bool:
    """vma_needs_copy(): pages of a file that nobody has copied are found again by faults."""
    return bool(old.vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) or old.anon_vma is not None


def _copy_page_range(vma: VmArea, old: VmArea) -> None:
    """copy_page_range(): `vma` maps what `old` does, read-only on both sides where writes must copy."""
    if not _vma_needs_copy(old):
        return
    mm, oldmm = vma.vm_mm, old.vm_mm
    pgtable, pages = oldmm.init_mm.pgtable, oldmm.pages
    cow = old.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE  # is_cow_mapping()
    for address, entry in oldmm.tree.entries(old.vm_start, old.vm_end - old.vm_start):
        if cow and pgtable.present(entry) and pgtable.prot(entry) & Prot.WRITE:  # ptep_set_wrprotect()
            entry = pgtable.mk_leaf(pgtable.pa(entry), pgtable.prot(entry) & ~Prot.WRITE)
            oldmm.tree.set_pte(address, entry)
        mm.tree.set_pte(address, entry)
        pfn = oldmm.frame(entry)
        if pfn is not None:
            pages.get_page(pfn)
            pages.add_mapcount(pfn, 1)
