"""The page cache of one file, and who maps it.

Mirrors struct address_space (include/linux/fs.h), mm/truncate.c (truncate_inode_pages), mm/memory.c
(unmap_mapping_range) and mm/rmap.c (folio_mkclean). Leaves out: large folios, page locks, the locks of a mapping
(i_pages, i_mmap_rwsem, invalidate_lock): Python changes a mapping in one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from arch.interface import PAGE_SHIFT, PAGE_SIZE, Prot
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import VM_SHARED

if TYPE_CHECKING:
    from kernel_model.mm.vma import VmArea


class AddressSpace:
    """struct address_space: cached pages by index, and the VMAs that map the file.

    `can_writeback` (mapping_can_writeback()): dirty pages go back to a store, so that somebody must know of the first
    write to a page. `owner` is the name that the page allocator lists the pages under.
    """

    def __init__(self, init_mm: InitMm, owner: str, *, can_writeback: bool = False) -> None:
        self.can_writeback = can_writeback
        self._init_mm = init_mm
        self._owner = owner
        self.i_pages: SortedDict[int, int] = SortedDict()  # index -> pfn; the cache holds one reference to each
        self.i_mmap: dict[VmArea, None] = {}  # in the order in which they came
        self.dirty: set[int] = set()  # PAGECACHE_TAG_DIRTY; kept where `can_writeback`

    # -- pages -------------------------------------------------------------------------------------------------------

    def add_page(self, index: int, data: bytes = b"") -> int:
        """filemap_add_folio(): pfn of a new page that begins with `data`, the rest zero. OutOfMemoryError."""
        pfn = self._init_mm.pages.alloc_pages(0, self._owner, zero=len(data) < PAGE_SIZE)
        if data:
            self._init_mm.memory.write(pfn << PAGE_SHIFT, data)
        self.i_pages[index] = pfn
        return pfn

    def mark_dirty(self, index: int) -> None:
        """folio_mark_dirty()"""
        if self.can_writeback and index in self.i_pages:
            self.dirty.add(index)

    def truncate_inode_pages(self, size: int) -> None:
        """truncate_inode_pages(): pages behind `size` bytes leave the cache, dirty or not; what a page that stays has
        behind the end becomes zero."""
        first, rest = (size + PAGE_SIZE - 1) >> PAGE_SHIFT, size % PAGE_SIZE
        for index in list(self.i_pages.irange(first)):
            self.dirty.discard(index)
            self._init_mm.pages.put_page(self.i_pages.pop(index))
        last = self.i_pages.get(size >> PAGE_SHIFT) if rest else None
        if last is not None:
            self._init_mm.memory.fill((last << PAGE_SHIFT) + rest, PAGE_SIZE - rest)
            self.mark_dirty(size >> PAGE_SHIFT)

    # -- mappings ----------------------------------------------------------------------------------------------------

    def unmap_mapping_range(self, holebegin: int, even_cows: bool) -> None:
        """unmap_mapping_range() up to the end of the file: no process maps a page from byte `holebegin` on.

        `even_cows`: a private mapping loses its own copies too.
        """
        first = (holebegin + PAGE_SIZE - 1) >> PAGE_SHIFT
        for vma in list(self.i_mmap):
            start = vma.vm_start + (max(first - vma.vm_pgoff, 0) << PAGE_SHIFT)
            if start >= vma.vm_end:
                continue
            if even_cows:
                vma.vm_mm.zap_page_range(start, vma.vm_end - start)
                continue
            for address, entry in vma.vm_mm.tree.entries(start, vma.vm_end - start):  # should_zap_cows()
                index = vma.vm_pgoff + ((address - vma.vm_start) >> PAGE_SHIFT)
                if vma.vm_mm.frame(entry) == self.i_pages.get(index):
                    vma.vm_mm.zap_page_range(address, PAGE_SIZE)

    def folio_mkclean(self, index: int) -> None:
        """folio_mkclean(): the page's next write shall fault again, whoever makes it."""
        self.dirty.discard(index)
        for vma in self.i_mmap:
            address = vma.vm_start + ((index - vma.vm_pgoff) << PAGE_SHIFT)
            if not vma.vm_flags & VM_SHARED or not vma.vm_start <= address < vma.vm_end:
                continue
            mm = vma.vm_mm
            pgtable, entry = mm.init_mm.pgtable, mm.tree.pte(address)
            if entry and pgtable.prot(entry) & Prot.WRITE:
                mm.tree.set_pte(address, pgtable.mk_leaf(pgtable.pa(entry), pgtable.prot(entry) & ~Prot.WRITE))
                mm.flush(address, address + PAGE_SIZE)
