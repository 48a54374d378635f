"""init_mm: the kernel's own page tables, and how physical memory is laid out at boot.

Mirrors mm/init-mm.c and, for the order of things, arch/x86/mm/init_64.c and arch/arm64/mm/mmu.c: the direct map (by
2 MiB blocks on x86-64, by pages on arm64), struct pages at vmemmap, the kernel image with permissions per section,
kernel mappings made later. Leaves out: 1 GiB blocks, KASLR, memory hotplug, the read-only alias of the text in the
direct map, freeing init memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arch.interface import PAGE_SHIFT, Layout, PageTable, Prot, Walk
from kernel_model.memory import GuestMemory
from kernel_model.mm.page_alloc import PAGE_STRUCT_SIZE, PageAllocator
from kernel_model.mm.pgtable import PMD_SIZE, PageTableTree

_LOW_MEMORY = 1 << 20  # x86: trim_bios_range() and reserve_bios_regions() keep the first MiB
KERNEL_HALF = 0xFFFF_0000_0000_0000  # below it an address is a user one or not canonical
_KERNEL_RW = Prot.READ | Prot.WRITE

FlushRange = Callable[[int, int], None]


def _no_flush(start: int, end: int) -> None:
    """Before a CPU runs there is nothing to flush."""


class InitMm:
    """Kernel address space: `tree` is swapper_pg_dir, `pgd` its physical address.

    `flush_tlb_kernel_range(start, end)` is called after entries were cleared or changed; the machine sets it.
    """

    def __init__(self, memory: GuestMemory, layout: Layout, pgtable: PageTable, pages: PageAllocator) -> None:
        self.memory = memory
        self.layout = layout
        self.pgtable = pgtable
        self.pages = pages
        self.tree = PageTableTree(memory, pgtable, pages, owner="init_mm page tables")
        self.flush_tlb_kernel_range: FlushRange = _no_flush
        self.image_pages: dict[int, int] = {}  # page number -> physical page address: what map_image() has mapped
        self._direct_start = layout.page_offset + memory.base - layout.phys_base
        self._direct_end = self._direct_start + memory.size

    @property
    def pgd(self) -> int:
        """Physical address of the root (CR3 / TTBR1_EL1)."""
        return self.tree.root

    # -- addresses ---------------------------------------------------------------------------------------------------

    def phys_to_virt(self, pa: int) -> int:
        """__va(): address of `pa` in the direct map."""
        return self.layout.page_offset + pa - self.layout.phys_base

    def virt_to_phys(self, va: int) -> int | None:
        """Physical address of `va` where it lies in the direct map, else None."""
        if self._direct_start <= va < self._direct_end:
            return va - self.layout.page_offset + self.layout.phys_base
        return None

    def translate(self, va: int) -> int | None:
        """Physical address behind any kernel address, by the page tables; None where nothing is mapped."""
        pa = self.virt_to_phys(va)
        if pa is not None:
            return pa
        return self.pgtable.translate(self.memory.read_u64, self.tree.root, va) if va >= KERNEL_HALF else None

    def walk(self, va: int) -> Walk:
        """All levels, as oops printing shows them."""
        return self.tree.walk(va)

    # -- boot --------------------------------------------------------------------------------------------------------

    def _map_direct(self) -> None:
        self.tree.map_range(
            self._direct_start,
            self.memory.base,
            self.memory.size,
            _KERNEL_RW,
            linear=True,
            blocks=self.pgtable.LINEAR_BLOCKS,
        )

    def _map_vmemmap(self, array_pa: int) -> None:
        size = (self.memory.size >> PAGE_SHIFT) * PAGE_STRUCT_SIZE
        self.tree.map_range(self.layout.vmemmap, array_pa, (size + 4095) & -4096, _KERNEL_RW)

    def _preallocate_roots(self) -> None:
        """preallocate_vmalloc_pages() (arch/x86/mm/init_64.c): user roots are copies, so no entry may come later."""
        if not self.pgtable.SHARED_ROOT:
            return
        for start, end in (
            (self.layout.vmalloc_start, self.layout.vmalloc_end),
            (self.layout.modules_start, self.layout.modules_end - 1),
        ):
            for va in range(start & -(1 << 39), end, 1 << 39):
                self.tree.ensure(va, 30)

    def map_image(self, va: int, pa: int, size: int, prot: Prot) -> None:
        """Map part of the kernel image: whole pages, permissions of its section; 2 MiB blocks where aligned."""
        self.tree.map_range(va, pa, size, prot, early=True)
        numbers = range(va >> PAGE_SHIFT, va + size >> PAGE_SHIFT)
        self.image_pages.update(zip(numbers, range(pa, pa + size, 1 << PAGE_SHIFT), strict=True))

    # -- later mappings ----------------------------------------------------------------------------------------------

    def map_kernel_range(self, va: int, pfns: Sequence[int], prot: Prot) -> None:
        """vmap_pages_range(): map the page frames one after another from `va`. MappingError on overlap."""
        for i, pfn in enumerate(pfns):
            self.tree.map_page(va + (i << PAGE_SHIFT), pfn << PAGE_SHIFT, prot)

    def populate_kernel_range(self, start: int, end: int) -> None:
        """apply_to_page_range() without a function: make every table of [start, end) down to the entries."""
        for va in range(start & -PMD_SIZE, end, PMD_SIZE):
            self.tree.ensure(va)

    def unmap_kernel_range(self, va: int, size: int) -> list[int]:
        """vunmap_range(): clear [va, va + size), flush, and return the pfns that were mapped, ascending by address."""
        cleared = self.tree.unmap_range(va, size)
        for page, _ in cleared:
            self.image_pages.pop(page >> PAGE_SHIFT, None)
        if cleared:
            self.flush_tlb_kernel_range(va, va + size)
        return [self.pgtable.pa(entry) >> PAGE_SHIFT for _, entry in cleared if self.pgtable.present(entry)]

    def protect_kernel_range(self, va: int, size: int, prot: Prot) -> None:
        """set_memory_ro/rw/x/nx(): new permissions for mapped pages, and flush."""
        self.tree.protect(va, size, prot)
        self.flush_tlb_kernel_range(va, va + size)


def mem_init(
    memory: GuestMemory, layout: Layout, pgtable: PageTable, reserved: Sequence[tuple[int, int, str]] = ()
) -> InitMm:
    """Boot-time memory: struct pages at the top of RAM, `reserved` (start, end, owner) physical ranges taken, direct
    map and vmemmap mapped. `.pages` of the result is the page allocator."""
    array_size = (memory.size >> PAGE_SHIFT) * PAGE_STRUCT_SIZE
    align = PMD_SIZE if array_size >= PMD_SIZE else 4096
    array_pa = (memory.end - array_size) & -align
    pages = PageAllocator(memory, layout.vmemmap, array_pa)
    pages.reserve(array_pa, memory.end, "struct pages")
    if memory.base == 0:
        pages.reserve(0, _LOW_MEMORY, "low memory")
    for start, end, owner in reserved:
        pages.reserve(start, end, owner)
    init_mm = InitMm(memory, layout, pgtable, pages)
    init_mm._map_direct()
    init_mm._map_vmemmap(array_pa)
    init_mm._preallocate_roots()
    return init_mm
