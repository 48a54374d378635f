"""mprotect(): change what a range of user memory allows.

Mirrors mm/mprotect.c (Linux 6.18): do_mprotect_pkey, mprotect_fixup, change_protection. Leaves out: protection keys,
NUMA balancing, huge pages, sealing, accounting of committed memory (only its flag, for it decides about merging).
"""

from __future__ import annotations

from arch.interface import PAGE_SHIFT, PAGE_SIZE, Prot
from kernel_model.fs.file import File
from kernel_model.mm.mm_types import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_NORESERVE,
    VM_SHARED,
    VM_WRITE,
)
from kernel_model.mm.mmap import PROT_EXEC, PROT_READ, PROT_WRITE, calc_vm_prot_bits
from kernel_model.mm.vma import MmStruct, VmArea, vm_page_prot, vma_wants_writenotify
from kernel_model.mm.vma_change import vma_modify_flags
from kernel_model.sched.requests import Sleeping

PROT_SEM = 0x8
PROT_GROWSDOWN, PROT_GROWSUP = 0x01000000, 0x02000000

_EINVAL, _ENOMEM, _EACCES = 22, 12, 13
_MAY_SHIFT = 4  # VM_MAYREAD is VM_READ << 4, and so on
_U64 = (1 << 64) - 1


def do_mprotect(mm: MmStruct, start: int, length: int, prot: int) -> Sleeping:
    """do_mprotect_pkey() with mmap_lock held for writing: 0 or -errno; `start` and `length` in bytes.

    What lies before the place of an error is changed. EINVAL: unaligned, unknown bits of `prot`; ENOMEM: a wrap, a
    hole, too many VMAs; EACCES: more than the VMA may ever allow.
    """
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or start & (PAGE_SIZE - 1):
        return -_EINVAL
    if not length:
        return 0
    end = (start + (length + PAGE_SIZE - 1 & -PAGE_SIZE)) & _U64
    if end <= start:
        return -_ENOMEM
    if prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM):
        return -_EINVAL
    vma = mm.find_vma_intersection(start, end)
    if vma is None:
        return -_ENOMEM
    if grows & PROT_GROWSDOWN:
        start = vma.vm_start
        if not vma.vm_flags & VM_GROWSDOWN:
            return -_EINVAL
    elif vma.vm_start > start:
        return -_ENOMEM
    elif grows:
        return -_EINVAL  # no VMA grows upwards on these architectures
    return (yield from _each_vma(mm, start, end, calc_vm_prot_bits(prot)))


def _each_vma(mm: MmStruct, start: int, end: int, access: int) -> Sleeping:
    at = start
    while at < end:
        vma = mm.vma_lookup(at)
        if vma is None:
            return -_ENOMEM
        vm_flags = access | vma.vm_flags & ~VM_ACCESS_FLAGS
        if vm_flags & ~(vm_flags >> _MAY_SHIFT) & VM_ACCESS_FLAGS:
            return -_EACCES
        upto = min(vma.vm_end, end)
        if err := (yield from _mprotect_fixup(mm, vma, at, upto, vm_flags)):
            return err
        at = upto
    return 0


def _mprotect_fixup(mm: MmStruct, vma: VmArea, start: int, end: int, vm_flags: int) -> Sleeping:
    old = vma.vm_flags
    if vm_flags == old:
        return 0
    if vm_flags & VM_WRITE:
        if not old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE):
            vm_flags |= VM_ACCOUNT
    elif old & VM_ACCOUNT and vma.vm_ops is None and vma.anon_vma is None:
        vm_flags &= ~VM_ACCOUNT
    changed = yield from vma_modify_flags(mm, vma, start, end, vm_flags)
    if isinstance(changed, int):
        return changed
    yield from mm.start_write(changed)
    mm.set_flags(changed, vm_flags)
    yield from change_protection(mm, changed, start, end)
    return 0


def _dirty(vma: VmArea, address: int) -> bool:
    assert isinstance(vma.vm_file, File)
    return vma.vm_pgoff + ((address - vma.vm_start) >> PAGE_SHIFT) in vma.vm_file.f_mapping.dirty


def change_protection(mm: MmStruct, vma: VmArea, start: int, end: int) -> Sleeping:
    """Give the entries of [start, end) what `vma` allows now. A private page keeps or gets write permission only
    where nobody else has it, a page of a file that wants to know of writes only where it is dirty already
    (can_change_pte_writable()); translations go where something was taken away."""
    pgtable = mm.init_mm.pgtable
    prot = vm_page_prot(vma)
    tightened = False
    for address, entry in mm.tree.entries(start, end - start):
        pfn = mm.frame(entry)
        had = pgtable.prot(entry)
        if not vma.vm_flags & VM_ACCESS_FLAGS:
            special = pgtable.special(entry)
            new = pgtable.mk_protnone(pgtable.pa(entry))
            now = Prot(0)
        else:
            now = prot
            if vma.vm_flags & VM_WRITE and (pfn is not None and mm.exclusive(vma, pfn)):
                now |= Prot.WRITE
            if vma_wants_writenotify(vma) and _dirty(vma, address):
                now |= Prot.WRITE
            special = pgtable.special(entry)
            new = pgtable.mk_leaf(pgtable.pa(entry), now)
        mm.tree.set_pte(address, pgtable.mk_special(new) if special else new)
        tightened |= bool(had & ~now)
    if tightened:
        yield from mm.tlb.tlb_finish_mmu(mm, start, end, freed_tables=False)
