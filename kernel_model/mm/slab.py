"""kmalloc() and kfree(): small objects from the direct map.

Mirrors mm/slub.c and mm/slab_common.c (size classes, natural alignment, large requests straight from the page
allocator). Leaves out: per-CPU slabs, freelist randomisation and hardening, memory cgroups, named kmem_caches,
slabs freed by RCU. An empty slab goes back to the page allocator at once, so that page accounting is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from sortedcontainers import SortedDict

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.errors import KemuError
from kernel_model.mm.init_mm import InitMm

KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
KMALLOC_MAX_CACHE_SIZE = 8192
POISON_FREE = 0x6B
POISON_END = 0xA5


class SlabError(KemuError):
    """An object freed twice or never allocated; the text is in the words of slub_debug."""


@dataclass(slots=True)
class _Slab:
    pfn: int
    size: int
    total: int
    free: list[int] = field(default_factory=list)  # object addresses, next one last


@dataclass(frozen=True, slots=True)
class KmallocObject:
    """One live object. `size` is what was asked for, in bytes."""

    addr: int
    size: int
    owner: str


class Slab:
    """The kmalloc caches. `poison` fills freed objects with 0x6b ... 0xa5 (slub_debug=P)."""

    def __init__(self, init_mm: InitMm, *, poison: bool = False) -> None:
        self._init_mm = init_mm
        self._memory = init_mm.memory
        self._poison = poison
        self._partial: tuple[SortedDict[int, _Slab], ...] = tuple(SortedDict() for _ in KMALLOC_SIZES)
        self._slabs: dict[int, tuple[int, _Slab]] = {}  # page address -> class and slab
        self._live: dict[int, KmallocObject] = {}
        self._large: dict[int, int] = {}  # address -> order

    def kmalloc(self, size: int, owner: str = "kmalloc", *, zero: bool = False) -> int:
        """Address in the direct map of `size` bytes. Raises OutOfMemoryError; a size over 4 MiB counts as such."""
        if size <= 0:
            raise SlabError(f"kmalloc: {size} bytes for {owner}")
        if size > KMALLOC_MAX_CACHE_SIZE:
            addr = self._large_alloc(size, owner)
        else:
            addr = self._small_alloc(bisect_left(KMALLOC_SIZES, size))
        self._live[addr] = KmallocObject(addr, size, owner)
        if zero:
            self._memory.fill(self._pa(addr), self.ksize(addr))
        return addr

    def kzalloc(self, size: int, owner: str = "kmalloc") -> int:
        """kmalloc() of zeroed memory."""
        return self.kmalloc(size, owner, zero=True)

    def _pa(self, addr: int) -> int:
        pa = self._init_mm.virt_to_phys(addr)
        if pa is None:
            raise SlabError(f"kfree: {addr:#018x} is not in the direct map")
        return pa

    def _large_alloc(self, size: int, owner: str) -> int:
        order = ((size - 1) >> PAGE_SHIFT).bit_length()
        pfn = self._init_mm.pages.alloc_pages(order, owner)
        addr = self._init_mm.phys_to_virt(pfn << PAGE_SHIFT)
        self._large[addr] = order
        return addr

    def _small_alloc(self, cls: int) -> int:
        partial = self._partial[cls]
        if not partial:
            self._new_slab(cls)
        base: int
        slab: _Slab
        base, slab = partial.peekitem(0)
        addr: int = slab.free.pop()
        if not slab.free:
            del partial[base]
        return addr

    def _new_slab(self, cls: int) -> None:
        size = KMALLOC_SIZES[cls]
        order = 0 if size <= PAGE_SIZE else 1
        pfn = self._init_mm.pages.alloc_pages(order, f"kmalloc-{size}" if size < 1024 else f"kmalloc-{size >> 10}k")
        base = self._init_mm.phys_to_virt(pfn << PAGE_SHIFT)
        total = (PAGE_SIZE << order) // size
        slab = _Slab(pfn, size, total, [base + i * size for i in reversed(range(total))])
        for page in range(base, base + (PAGE_SIZE << order), PAGE_SIZE):
            self._slabs[page] = (cls, slab)
        self._partial[cls][base] = slab

    def ksize(self, addr: int) -> int:
        """Bytes that the object at `addr` may use."""
        if addr in self._large:
            return PAGE_SIZE << self._large[addr]
        return self._find(addr)[1].size

    def _find(self, addr: int) -> tuple[int, _Slab]:
        found = self._slabs.get(addr & -PAGE_SIZE)
        if found is None:
            raise SlabError(f"kfree: {addr:#018x} is no kmalloc object")
        return found

    def kfree(self, addr: int) -> None:
        """Free the object; 0 is nothing. SlabError when it is none, or free already."""
        if not addr:
            return
        if addr not in self._live:
            cls, slab = self._find(addr)
            what = "Object already free" if addr in slab.free else "Invalid object pointer"
            raise SlabError(f"BUG kmalloc-{KMALLOC_SIZES[cls]}: {what} {addr:#018x}")
        order = self._large.pop(addr, None)
        del self._live[addr]
        if order is not None:
            self._init_mm.pages.free_pages(self._pa(addr) >> PAGE_SHIFT, order)
            return
        cls, slab = self._find(addr)
        if self._poison:
            self._memory.write(self._pa(addr), bytes([POISON_FREE]) * (slab.size - 1) + bytes([POISON_END]))
        slab.free.append(addr)
        base = self._init_mm.phys_to_virt(slab.pfn << PAGE_SHIFT)
        if len(slab.free) == slab.total:
            self._discard(cls, base, slab)
        else:
            self._partial[cls][base] = slab

    def _discard(self, cls: int, base: int, slab: _Slab) -> None:
        order = 0 if slab.size <= PAGE_SIZE else 1
        self._partial[cls].pop(base, None)
        for page in range(base, base + (PAGE_SIZE << order), PAGE_SIZE):
            del self._slabs[page]
        self._init_mm.pages.free_pages(slab.pfn, order)

    def live(self) -> list[KmallocObject]:
        """Every live object, ascending by address."""
        return [self._live[addr] for addr in sorted(self._live)]
