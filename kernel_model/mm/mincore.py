"""mincore(): which pages are there.

Mirrors mm/mincore.c (Linux 6.18): do_mincore, mincore_pte_range, __mincore_unmapped_range. Leaves out: swap, huge
pages, files of other users (can_do_mincore()).
"""

from __future__ import annotations

from arch.interface import PAGE_SHIFT
from kernel_model.fs.file import File
from kernel_model.mm.vma import MmStruct

_ENOMEM = 12


def do_mincore(mm: MmStruct, addr: int, pages: int) -> bytes | int:
    """One byte, 1 or 0, for each of at most `pages` pages at `addr` up to the end of its VMA; -ENOMEM without a VMA.

    mmap_lock is held for reading. A page of a file that no entry maps is there if it is cached.
    """
    vma = mm.vma_lookup(addr)
    if vma is None:
        return -_ENOMEM
    end = min(vma.vm_end, addr + (pages << PAGE_SHIFT))
    vec = bytearray((end - addr) >> PAGE_SHIFT)
    for at, _ in mm.tree.entries(addr, end - addr):
        vec[(at - addr) >> PAGE_SHIFT] = 1
    if isinstance(vma.vm_file, File):
        first = vma.vm_pgoff + ((addr - vma.vm_start) >> PAGE_SHIFT)
        for index in vma.vm_file.f_mapping.i_pages.irange(first, first + len(vec) - 1):
            vec[index - first] = 1
    return bytes(vec)
