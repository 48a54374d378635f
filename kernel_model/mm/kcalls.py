"""The mm functions that guest text calls: kernel names and pointers outside, the model's objects inside.

Mirrors mm/memory.c, mm/mmap.c, mm/slub.c, mm/vmalloc.c, mm/page_alloc.c by function name. The locks of user faults
are guest text (images/kernel/mm/mmap_lock.c); what is here is called with them held, or needs none.
"""

from __future__ import annotations

from arch.interface import PAGE_SHIFT, PAGE_SIZE, Prot
from kernel_model.kcall import kcall
from kernel_model.mm.fault import FaultHandler, expand_steps
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import FaultFlag
from kernel_model.mm.page_alloc import BadPageStateError, OutOfMemoryError
from kernel_model.mm.slab import Slab
from kernel_model.mm.vma import MmRegistry, MmStruct
from kernel_model.mm.vmalloc import Vmalloc, VmallocError
from kernel_model.sched.requests import Sleeping

_ENOMEM = 12
_X86_PF_INSTR = 0x10
_GFP_ZERO = 0x100  # ___GFP_ZERO (include/linux/gfp_types.h)


class MmKcalls:
    """kcalls of the memory manager. Pointers are guest virtual addresses, 0 is NULL."""

    def __init__(self, init_mm: InitMm, slab: Slab, vmalloc: Vmalloc, faults: FaultHandler, mms: MmRegistry) -> None:
        self._init_mm = init_mm
        self._slab = slab
        self._vmalloc = vmalloc
        self._faults = faults
        self._mms = mms

    # -- page tables -------------------------------------------------------------------------------------------------

    def _populate(self, entry: int) -> int:
        where = self._init_mm.virt_to_phys(entry)
        if where is None:
            raise BadPageStateError(f"page-table entry at {entry:#x} is not in the direct map")
        try:
            if not self._init_mm.memory.read_u64(where):  # someone else may have been faster
                self._init_mm.tree.populate(where)
        except OutOfMemoryError:
            return -_ENOMEM
        return 0

    @kcall
    def __pte_alloc_kernel(self, pmd: int) -> int:
        return self._populate(pmd)

    @kcall
    def __pmd_alloc(self, mm: int, pud: int, address: int) -> int:
        return self._populate(pud)

    @kcall
    def __pud_alloc(self, mm: int, p4d: int, address: int) -> int:
        return self._populate(p4d)

    @kcall
    def spurious_kernel_fault(self, error_code: int, address: int) -> bool:
        """int spurious_kernel_fault(unsigned long error_code, unsigned long address): a stale translation faulted,
        the entry allows the access (arch/x86/mm/fault.c)."""
        prot = self._init_mm.walk(address).prot
        if error_code & _X86_PF_INSTR:
            return bool(prot & Prot.EXEC)
        return bool(prot & Prot.WRITE)

    # -- user faults -------------------------------------------------------------------------------------------------

    def _mm(self, mm: int) -> MmStruct | None:
        return self._mms.mms.get(mm)

    @kcall
    def find_vma(self, mm: int, addr: int) -> int:
        """struct vm_area_struct *find_vma(struct mm_struct *mm, unsigned long addr)"""
        known = self._mm(mm)
        vma = known.find_vma(addr) if known else None
        return vma.addr if vma else 0

    @kcall
    def mas_walk_vma(self, mm: int, addr: int) -> int:
        """struct vm_area_struct *mas_walk_vma(struct mm_struct *mm, unsigned long addr): the VMA that holds `addr`, or
        NULL. mas_walk() of a maple state that begins at `addr`; without a lock, as under RCU."""
        known = self._mm(mm)
        vma = known.vma_lookup(addr) if known else None
        return vma.addr if vma else 0

    @kcall
    def expand_stack_locked(self, vma: int, addr: int) -> Sleeping:
        """int expand_stack_locked(struct vm_area_struct *vma, unsigned long addr): mmap_lock is held for writing."""
        area = self._mms.vma(vma)
        grown = yield from expand_steps(area.vm_mm, area, addr & -PAGE_SIZE)
        return 0 if grown else -_ENOMEM

    @kcall
    def __handle_mm_fault(self, vma: int, address: int, flags: int, regs: int) -> Sleeping:
        return int((yield from self._faults.fault_steps(self._mms.vma(vma), address, FaultFlag(flags))))

    @kcall
    def kfence_handle_page_fault(self, addr: int, is_write: bool, regs: int) -> bool:
        """bool kfence_handle_page_fault(): the pool is empty, as with kfence.sample_interval=0: never its page."""
        return False

    # -- kernel memory -----------------------------------------------------------------------------------------------

    @kcall
    def kmalloc(self, size: int, flags: int = 0) -> int:
        """void *kmalloc(size_t size, gfp_t flags)"""
        try:
            return self._slab.kmalloc(size, zero=bool(flags & _GFP_ZERO)) if size else 0
        except OutOfMemoryError:
            return 0

    @kcall
    def kzalloc(self, size: int, flags: int) -> int:
        """void *kzalloc(size_t size, gfp_t flags)"""
        return self.kmalloc(size, flags | _GFP_ZERO)

    @kcall
    def kcalloc(self, n: int, size: int, flags: int) -> int:
        """void *kcalloc(size_t n, size_t size, gfp_t flags)"""
        return self.kmalloc(n * size, flags | _GFP_ZERO)

    @kcall
    def kvcalloc(self, n: int, size: int, flags: int) -> int:
        """void *kvcalloc(size_t n, size_t size, gfp_t flags): vmalloc space where kmalloc has no such size."""
        return self.kcalloc(n, size, flags) or (self.vzalloc(n * size) if n and size else 0)

    @kcall
    def kmalloc_nolock(self, size: int, flags: int, node: int) -> int:
        """void *kmalloc_nolock(size_t size, gfp_t gfp_flags, int node)"""
        return self.kmalloc(size, flags)

    @kcall
    def slab_free(self, object: int) -> None:
        """The end of kfree(), which is guest text."""
        self._slab.kfree(object)

    @kcall
    def ksize(self, object: int) -> int:
        """size_t ksize(const void *object)"""
        return self._slab.ksize(object)

    @kcall
    def kfree_nolock(self, object: int) -> None:
        """void kfree_nolock(const void *object)"""
        self._slab.kfree(object)

    @kcall
    def kvfree(self, addr: int) -> None:
        """void kvfree(const void *addr)"""
        if self._vmalloc.find_vm_area(addr) is not None:
            self._vmalloc.vfree(addr)
        else:
            self._slab.kfree(addr)

    @kcall
    def vmalloc(self, size: int) -> int:
        """void *vmalloc(unsigned long size)"""
        try:
            return self._vmalloc.vmalloc(size)
        except (OutOfMemoryError, VmallocError):
            return 0

    @kcall
    def vzalloc(self, size: int) -> int:
        """void *vzalloc(unsigned long size): every vmalloc() is zeroed here."""
        return self.vmalloc(size)

    @kcall
    def vfree(self, addr: int) -> None:
        """void vfree(const void *addr)"""
        self._vmalloc.vfree(addr)

    # -- pages -------------------------------------------------------------------------------------------------------

    @kcall
    def alloc_pages(self, gfp: int, order: int) -> int:
        """struct page *alloc_pages(gfp_t gfp, unsigned int order)"""
        pages = self._init_mm.pages
        try:
            return pages.pfn_to_page(pages.alloc_pages(order, "alloc_pages", zero=bool(gfp & _GFP_ZERO)))
        except OutOfMemoryError:
            return 0

    @kcall
    def __free_pages(self, page: int, order: int) -> None:
        self._init_mm.pages.free_pages(self._init_mm.pages.page_to_pfn(page), order)

    @kcall
    def __free_page(self, page: int) -> None:
        self._init_mm.pages.free_pages(self._init_mm.pages.page_to_pfn(page))

    @kcall
    def get_page(self, page: int) -> None:
        """void get_page(struct page *page)"""
        self._init_mm.pages.get_page(self._init_mm.pages.page_to_pfn(page))

    @kcall
    def put_page(self, page: int) -> None:
        """void put_page(struct page *page)"""
        self._init_mm.pages.put_page(self._init_mm.pages.page_to_pfn(page))

    @kcall
    def page_mapped(self, page: int) -> bool:
        """bool page_mapped(const struct page *page)"""
        return self._init_mm.pages.page_mapped(self._init_mm.pages.page_to_pfn(page))

    @kcall
    def page_address(self, page: int) -> int:
        """void *page_address(const struct page *page)"""
        return self._init_mm.phys_to_virt(self._init_mm.pages.page_to_pfn(page) << PAGE_SHIFT)
