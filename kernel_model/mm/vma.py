"""VMAs and the tree that orders them; mm_struct.

Mirrors mm/vma.c, mm/mmap.c (find_vma and kin) and kernel/fork.c (mm_init, mmput). Leaves out: the maple tree's shape,
anon_vma and reverse maps, fork. The locks are guest text; here they only get their first state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sortedcontainers import SortedDict

from arch.interface import PAGE_SHIFT
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import VmOperations
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.pgtable import PageTableTree

FlushUser = Callable[[int, int], None]


@dataclass(slots=True, eq=False)
class VmArea:
    """struct vm_area_struct: [vm_start, vm_end) of one mm. `addr` is the guest's copy of it."""

    vm_mm: MmStruct
    vm_start: int
    vm_end: int
    vm_flags: int
    vm_pgoff: int = 0
    vm_ops: VmOperations | None = None
    vm_private_data: object | None = None
    name: str = ""  # base name of the file, or [stack], [heap]
    addr: int = 0


@dataclass(slots=True)
class FaultCounters:
    """Page faults that handle_mm_fault() accounted (mm_account_fault())."""

    major: int = 0
    minor: int = 0


class MmStruct:
    """struct mm_struct: one user address space with its own root table.

    Where the root is shared with the kernel (x86-64) its upper half is a copy of swapper_pg_dir's. `flush(start, end)`
    is called after user entries were cleared or made stricter. `addr` is the guest's copy.
    """

    def __init__(self, init_mm: InitMm, objects: GuestObjects, name: str = "user") -> None:
        self.init_mm = init_mm
        self.pages = init_mm.pages
        self.objects = objects
        self.name = name
        self.tree = PageTableTree(
            init_mm.memory, init_mm.pgtable, init_mm.pages, owner=f"page tables of {name}", user=True
        )
        if init_mm.pgtable.SHARED_ROOT:  # pgd_ctor() (arch/x86/mm/pgtable.c): clone the kernel's half
            init_mm.memory.write(self.tree.root + 2048, init_mm.memory.read(init_mm.pgd + 2048, 2048))
        self.task_size = init_mm.layout.task_size
        self.mmap_base = (self.task_size - (128 << 20)) & -4096  # mmap_base() without randomisation, MIN_GAP 128 MiB
        self.counters = FaultCounters()
        self.flush: FlushUser = lambda start, end: None
        self._vmas: SortedDict[int, VmArea] = SortedDict()
        self.by_addr: dict[int, VmArea] = {}
        self.addr = objects.new("mm_struct", pgd=init_mm.phys_to_virt(self.tree.root))
        objects.init_mmap_lock(self.addr)

    @property
    def pgd(self) -> int:
        """Physical address of the root (CR3 / TTBR0_EL1)."""
        return self.tree.root

    # -- VMAs --------------------------------------------------------------------------------------------------------

    def find_vma(self, addr: int) -> VmArea | None:
        """The first VMA that ends above `addr`; it may begin above it too."""
        index = self._vmas.bisect_right(addr) - 1
        for i in (index, index + 1):
            if 0 <= i < len(self._vmas):
                vma: VmArea = self._vmas.peekitem(i)[1]
                if vma.vm_end > addr:
                    return vma
        return None

    def vma_lookup(self, addr: int) -> VmArea | None:
        """The VMA that holds `addr`."""
        vma = self.find_vma(addr)
        return vma if vma is not None and vma.vm_start <= addr else None

    def find_vma_intersection(self, start: int, end: int) -> VmArea | None:
        """The lowest VMA that overlaps [start, end)."""
        vma = self.find_vma(start)
        return vma if vma is not None and vma.vm_start < end else None

    def vmas(self) -> Iterator[VmArea]:
        """All VMAs, ascending."""
        return iter(list(self._vmas.values()))

    def insert_vma(self, vma: VmArea) -> None:
        """vma_link(): add a VMA that overlaps none."""
        if vma.vm_start >= vma.vm_end or self.find_vma_intersection(vma.vm_start, vma.vm_end) is not None:
            raise ValueError(f"VMA [{vma.vm_start:#x}, {vma.vm_end:#x}) is empty or overlaps another")
        vma.addr = self.objects.new(
            "vm_area_struct", vm_start=vma.vm_start, vm_end=vma.vm_end, vm_flags=vma.vm_flags, vm_mm=self.addr
        )
        self.objects.init_vma_lock(vma.addr)
        self._vmas[vma.vm_start] = vma
        self.by_addr[vma.addr] = vma

    def resize_vma(self, vma: VmArea, start: int, end: int) -> None:
        """vma_set_range(): move the ends of a VMA, keeping file offsets."""
        del self._vmas[vma.vm_start]
        vma.vm_pgoff += (start - vma.vm_start) >> PAGE_SHIFT
        vma.vm_start, vma.vm_end = start, end
        self._vmas[start] = vma
        self.objects.set("vm_area_struct", vma.addr, vm_start=start, vm_end=end)

    def remove_vma(self, vma: VmArea) -> None:
        """Close and forget a VMA; its pages have been zapped."""
        del self._vmas[vma.vm_start]
        del self.by_addr[vma.addr]
        if vma.vm_ops is not None:
            vma.vm_ops.close(vma)
        self.objects.free(vma.addr)

    # -- pages -------------------------------------------------------------------------------------------------------

    def zap_page_range(self, start: int, size: int) -> int:
        """zap_page_range_single(): unmap the user pages of the range, drop their references; how many there were."""
        cleared = self.tree.unmap_range(start, size)
        pgtable = self.init_mm.pgtable
        if cleared:
            self.flush(start, start + size)
        for _, entry in cleared:
            if pgtable.present(entry) and not pgtable.special(entry):
                pfn = pgtable.pa(entry) >> PAGE_SHIFT
                self.pages.add_mapcount(pfn, -1)
                self.pages.put_page(pfn)
        return len(cleared)

    def exit_mmap(self) -> None:
        """exit_mmap() and __mmdrop(): unmap everything, free all tables and the struct. The mm is dead afterwards."""
        for vma in self.vmas():
            self.zap_page_range(vma.vm_start, vma.vm_end - vma.vm_start)
            self.remove_vma(vma)
        self.tree.free_tables()
        self.objects.free(self.addr)


@dataclass(slots=True)
class MmRegistry:
    """Finds an mm or a VMA by the address that guest text knows it by."""

    mms: dict[int, MmStruct] = field(default_factory=dict)

    def add(self, mm: MmStruct) -> None:
        """Make `mm` known."""
        self.mms[mm.addr] = mm

    def remove(self, mm: MmStruct) -> None:
        """Forget `mm`."""
        del self.mms[mm.addr]

    def vma(self, addr: int) -> VmArea:
        """The VMA at guest address `addr`. KeyError if there is none."""
        for mm in self.mms.values():
            if addr in mm.by_addr:
                return mm.by_addr[addr]
        raise KeyError(f"no vm_area_struct at {addr:#x}")
