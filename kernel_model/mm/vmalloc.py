"""vmalloc space: areas of kernel virtual addresses, each followed by a guard page.

Mirrors mm/vmalloc.c: get_vm_area(), vmalloc(), vfree(), free_vm_area(), vm_area_map_pages(), vm_area_unmap_pages(),
and the stacks of kernel/fork.c with CONFIG_VMAP_STACK. Leaves out: lazy purging (an area's addresses and translations
go at once), huge mappings, per-CPU block allocator, nodes of the vmap cache.

Addresses are first fit from the lowest, so that a run gives the same addresses every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sortedcontainers import SortedDict

from arch.interface import PAGE_SHIFT, PAGE_SIZE, Prot
from kernel_model.errors import KemuError
from kernel_model.mm.init_mm import InitMm

VM_IOREMAP = 0x01
VM_ALLOC = 0x02
VM_MAP = 0x04
VM_USERMAP = 0x08
VM_NO_GUARD = 0x40
VM_SPARSE = 0x1000

THREAD_SIZE = 16 << 10

_EINVAL, _E2BIG, _ENOMEM, _ERANGE = 22, 7, 12, 34
_KERNEL_RW = Prot.READ | Prot.WRITE


class VmallocError(KemuError):
    """No room in vmalloc space, or a request that breaks a rule of it."""


@dataclass(slots=True)
class VmStruct:
    """struct vm_struct: `size` includes the guard page unless VM_NO_GUARD. Addresses and sizes in bytes."""

    addr: int
    size: int
    flags: int
    owner: str
    pfns: list[int] = field(default_factory=list)

    @property
    def area_size(self) -> int:
        """get_vm_area_size(): without the guard page."""
        return self.size if self.flags & VM_NO_GUARD else self.size - PAGE_SIZE


class Vmalloc:
    """All areas between layout.vmalloc_start and vmalloc_end, and those that ask for another window (modules)."""

    def __init__(self, init_mm: InitMm) -> None:
        self._init_mm = init_mm
        self._areas: SortedDict[int, VmStruct] = SortedDict()

    # -- areas -------------------------------------------------------------------------------------------------------

    def get_vm_area(
        self,
        size: int,
        flags: int,
        owner: str = "vmalloc",
        *,
        align: int = PAGE_SIZE,
        start: int | None = None,
        end: int | None = None,
    ) -> VmStruct:
        """__get_vm_area_node(): the lowest hole of [start, end) (default: vmalloc space) that takes `size` bytes,
        rounded up to pages, plus the guard. Nothing is mapped. VmallocError when there is none."""
        layout = self._init_mm.layout
        low = layout.vmalloc_start if start is None else start
        high = layout.vmalloc_end if end is None else end
        size = (size + PAGE_SIZE - 1) & -PAGE_SIZE
        if not size:
            raise VmallocError(f"{owner}: an area of 0 bytes")
        if not flags & VM_NO_GUARD:
            size += PAGE_SIZE
        addr = self._first_fit(low, high, size, align)
        if addr is None:
            raise VmallocError(f"vmalloc error: {owner}: no room for {size:#x} bytes in [{low:#x}, {high:#x})")
        area = VmStruct(addr, size, flags, owner)
        self._areas[addr] = area
        return area

    def _first_fit(self, low: int, high: int, size: int, align: int) -> int | None:
        addr = (low + align - 1) & -align
        index = max(self._areas.bisect_right(low) - 1, 0)
        for area in self._areas.values()[index:]:
            if area.addr + area.size <= addr:
                continue
            if area.addr >= high or addr + size <= area.addr:
                break
            addr = (area.addr + area.size + align - 1) & -align
        return addr if addr + size <= high else None

    def find_vm_area(self, va: int) -> VmStruct | None:
        """The area that begins at `va` (find_vm_area())."""
        area: VmStruct | None = self._areas.get(va)
        return area

    def find_containing(self, va: int) -> VmStruct | None:
        """The area that holds `va`, guard page included (find_vmap_area() by any address)."""
        index = self._areas.bisect_right(va) - 1
        if index < 0:
            return None
        area: VmStruct = self._areas.peekitem(index)[1]
        return area if va < area.addr + area.size else None

    def free_vm_area(self, area: VmStruct) -> None:
        """Unmap what is left in the area and forget it; pages that were mapped belong to the caller."""
        if self._areas.get(area.addr) is not area:
            raise VmallocError(f"Trying to vfree() nonexistent vm area ({area.addr:#018x})")
        self._init_mm.unmap_kernel_range(area.addr, area.area_size)
        del self._areas[area.addr]

    def areas(self) -> list[VmStruct]:
        """Every area, ascending."""
        return list(self._areas.values())

    # -- sparse areas ------------------------------------------------------------------------------------------------

    def vm_area_map_pages(self, area: VmStruct, start: int, end: int, pfns: Sequence[int]) -> int:
        """Map frames at [start, end) of a VM_SPARSE area. 0, -EINVAL, -E2BIG or -ERANGE as mm/vmalloc.c has it."""
        if err := self._check_sparse(area, start, end):
            return err
        if (end - start) >> PAGE_SHIFT != len(pfns):
            return -_EINVAL
        self._init_mm.map_kernel_range(start, pfns, _KERNEL_RW)
        return 0

    def vm_area_unmap_pages(self, area: VmStruct, start: int, end: int) -> list[int]:
        """Unmap [start, end) of a VM_SPARSE area; the pfns that were mapped."""
        if self._check_sparse(area, start, end):
            return []
        return self._init_mm.unmap_kernel_range(start, end - start)

    def _check_sparse(self, area: VmStruct, start: int, end: int) -> int:
        if not area.flags & VM_SPARSE or area.flags & VM_NO_GUARD:
            return -_EINVAL
        if (end - start) >> PAGE_SHIFT >= self._init_mm.memory.size >> PAGE_SHIFT:
            return -_E2BIG
        if start < area.addr or end > area.addr + area.area_size:
            return -_ERANGE
        return 0

    # -- memory ------------------------------------------------------------------------------------------------------

    def vmalloc(
        self,
        size: int,
        owner: str = "vmalloc",
        *,
        align: int = PAGE_SIZE,
        start: int | None = None,
        end: int | None = None,
        prot: Prot = _KERNEL_RW,
    ) -> int:
        """`size` zeroed bytes, virtually contiguous; address of the first. vmalloc(), and execmem_alloc() with the
        modules' window and an executable `prot`."""
        area = self.get_vm_area(size, VM_ALLOC, owner, align=align, start=start, end=end)
        pages = self._init_mm.pages
        area.pfns = [pages.alloc_pages(0, owner, zero=True) for _ in range(area.area_size >> PAGE_SHIFT)]
        self._init_mm.map_kernel_range(area.addr, area.pfns, prot)
        return area.addr

    def vfree(self, addr: int) -> None:
        """Unmap a vmalloc() area and free its pages. 0 is nothing; VmallocError for an address that is no area."""
        if not addr:
            return
        area = self.find_vm_area(addr)
        if area is None:
            raise VmallocError(f"Trying to vfree() nonexistent vm area ({addr:#018x})")
        self.free_vm_area(area)
        for pfn in area.pfns:
            self._init_mm.pages.put_page(pfn)

    def alloc_thread_stack(self, owner: str = "kernel stack") -> int:
        """Lowest address of a kernel stack of THREAD_SIZE bytes, THREAD_SIZE aligned, with nothing mapped below it.

        kernel/fork.c: alloc_thread_stack_node() with CONFIG_VMAP_STACK (x86-64 THREAD_ALIGN, arm64 twice that).
        """
        low = self._init_mm.layout.vmalloc_start + PAGE_SIZE  # the guard below the very first stack
        return self.vmalloc(THREAD_SIZE, owner, align=2 * THREAD_SIZE, start=low)

    def clear(self, addr: int) -> None:
        """Zero the memory of a vmalloc() area."""
        area = self.find_vm_area(addr)
        assert area is not None
        for pfn in area.pfns:
            self._init_mm.memory.fill(pfn << PAGE_SHIFT, PAGE_SIZE)
