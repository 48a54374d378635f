"""mincore(): which pages are there.

Mirrors mm/mincore.c (Linux 6.18): do_mincore, mincore_pte_range. Leaves out: swap, huge pages, files of other users
(can_do_mincore()), pages of files that no entry maps.
"""

from __future__ import annotations

from arch.interface import PAGE_SHIFT
from kernel_model.errors import NotModelledError
from kernel_model.mm.vma import MmStruct

_ENOMEM = 12


def do_mincore(mm: MmStruct, addr: int, pages: int) -> bytes | int:
    """One byte, 1 or 0, for each of at most `pages` pages at `addr` up to the end of its VMA; -ENOMEM without a VMA.

    mmap_lock is held for reading. NotModelledError where the page cache would have to be asked.
    """
    vma = mm.vma_lookup(addr)
    if vma is None:
        return -_ENOMEM
    end = min(vma.vm_end, addr + (pages << PAGE_SHIFT))
    vec = bytearray((end - addr) >> PAGE_SHIFT)
    for at, _ in mm.tree.entries(addr, end - addr):
        vec[(at - addr) >> PAGE_SHIFT] = 1
    if (vma.vm_ops is not None or vma.vm_file is not None) and 0 in vec:
        raise NotModelledError("mincore(2): pages of a file that are not mapped are not modelled")
    return bytes(vec)
