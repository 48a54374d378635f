"""The page allocator: page frames, their struct page in guest memory, reference counts.

Mirrors mm/page_alloc.c and include/linux/{mm_types,mm,page_ref}.h as far as callers see them: alloc_pages(),
__free_pages(), get_page(), put_page(), page flags and counts at Linux's offsets, mapped at vmemmap. Leaves out: zones,
NUMA nodes, watermarks and reclaim, per-CPU lists, migration types, compound-page metadata.

Allocation is deterministic: the lowest free frame (the lowest aligned run for higher orders). Every frame's state is
also kept outside guest memory, so that a guest that scribbles over a struct page is found out, and so that at any
moment it is known which owner holds which frame: `usage()` before and after shows that every page came back, and a
page freed twice, freed while in use or never allocated is a BadPageStateError that names the broken rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.errors import KemuError
from kernel_model.memory import GuestMemory

PAGE_STRUCT_SIZE = 64
PAGE_FLAGS = 0
PAGE_MAPCOUNT = 0x30
PAGE_REFCOUNT = 0x34

PG_RESERVED = 1 << 13  # enum pageflags (include/linux/page-flags.h)
MAX_PAGE_ORDER = 10

_FREE, _RESERVED, _HEAD, _TAIL = range(4)


class BadPageStateError(KemuError):
    """A page was freed, counted or mapped against the rules; the text names the page and the rule."""


class OutOfMemoryError(KemuError):
    """No free run of page frames of the wanted order (Linux: NULL from alloc_pages())."""


class PageAllocator:
    """Page frames of all of `memory`, numbered by pfn = physical address >> 12.

    `vmemmap` is the kernel virtual address of the first frame's struct page, `array_pa` the physical address of the
    array behind it (64 bytes per frame). Frames that are in use from the start are taken by `reserve()`.
    """

    __slots__ = ("_array_pa", "_first_pfn", "_hint", "_memory", "_orders", "_owners", "_state", "_usage", "vmemmap")

    def __init__(self, memory: GuestMemory, vmemmap: int, array_pa: int) -> None:
        self._memory = memory
        self.vmemmap = vmemmap
        self._array_pa = array_pa
        self._first_pfn = memory.base >> PAGE_SHIFT
        self._state = bytearray(memory.size >> PAGE_SHIFT)
        self._owners: dict[int, str] = {}
        self._orders: dict[int, int] = {}
        self._usage: dict[str, int] = {}
        self._hint = 0

    # -- addresses ---------------------------------------------------------------------------------------------------

    def page_to_pfn(self, page: int) -> int:
        """pfn of the struct page at kernel virtual address `page`. BadPageStateError if it is none."""
        index, rest = divmod(page - self.vmemmap, PAGE_STRUCT_SIZE)
        if rest or not 0 <= index < len(self._state):
            raise BadPageStateError(f"page_to_pfn: {page:#x} is no struct page of vmemmap {self.vmemmap:#x}")
        return index + self._first_pfn

    def pfn_to_page(self, pfn: int) -> int:
        """Kernel virtual address of the struct page of `pfn`."""
        return self.vmemmap + self._index(pfn) * PAGE_STRUCT_SIZE

    def _index(self, pfn: int) -> int:
        index = pfn - self._first_pfn
        if not 0 <= index < len(self._state):
            raise BadPageStateError(f"pfn {pfn:#x} is not RAM")
        return index

    def _struct(self, pfn: int) -> int:
        return self._array_pa + self._index(pfn) * PAGE_STRUCT_SIZE

    # -- allocation --------------------------------------------------------------------------------------------------

    def reserve(self, start: int, end: int, owner: str) -> None:
        """Take the frames of physical [start, end) for good (memblock_reserve()): PG_reserved, one reference."""
        first, last = (start - self._memory.base) >> PAGE_SHIFT, (end - self._memory.base + PAGE_SIZE - 1) >> PAGE_SHIFT
        if first < 0 or last > len(self._state) or first >= last:
            raise BadPageStateError(f"reserve {owner}: [{start:#x}, {end:#x}) is not in RAM")
        if any(self._state[first:last]):
            raise BadPageStateError(f"reserve {owner}: part of [{start:#x}, {end:#x}) is taken")
        self._state[first:last] = bytes([_RESERVED]) * (last - first)
        self._usage[owner] = self._usage.get(owner, 0) + last - first
        words = cast(
            "npt.NDArray[np.uint32]",
            self._memory.array(self._array_pa + first * PAGE_STRUCT_SIZE, (last - first) * 16, "<u4"),
        ).reshape(-1, 16)
        words[:, PAGE_FLAGS >> 2] = PG_RESERVED
        words[:, PAGE_MAPCOUNT >> 2] = 0xFFFF_FFFF
        words[:, PAGE_REFCOUNT >> 2] = 1

    def alloc_pages(self, order: int = 0, owner: str = "kernel", *, zero: bool = False) -> int:
        """1 << order frames in a row, aligned to their number, with one reference; their contents are what they were
        unless `zero`. Returns the first pfn. `owner` is the name under which `usage()` lists them.

        Raises OutOfMemoryError. mm/page_alloc.c: __alloc_pages_noprof().
        """
        index = self._find(order)
        if index < 0:
            raise OutOfMemoryError(f"{owner}: page allocation failure: order:{order}, {self.nr_free} pages free")
        count = 1 << order
        self._state[index] = _HEAD
        if order:
            self._state[index + 1 : index + count] = bytes([_TAIL]) * (count - 1)
            self._orders[index] = order
        else:
            self._hint = index + 1
        self._owners[index] = owner
        self._usage[owner] = self._usage.get(owner, 0) + count
        head = self._array_pa + index * PAGE_STRUCT_SIZE
        for struct in range(head, head + count * PAGE_STRUCT_SIZE, PAGE_STRUCT_SIZE):
            self._memory.write_u64(struct + PAGE_FLAGS, 0)
            self._memory.write_u64(struct + PAGE_MAPCOUNT, 0xFFFF_FFFF)  # _mapcount -1, _refcount 0
        self._memory.write_u32(head + PAGE_REFCOUNT, 1)
        if zero:
            self._memory.fill(self._memory.base + (index << PAGE_SHIFT), count << PAGE_SHIFT)
        return index + self._first_pfn

    def _find(self, order: int) -> int:
        if order == 0:
            return self._state.find(_FREE, self._hint)
        if not 0 < order <= MAX_PAGE_ORDER:
            return -1
        count = 1 << order
        run = bytes(count)
        start = self._hint
        while (found := self._state.find(run, start)) >= 0:
            aligned = (found + count - 1) & ~(count - 1)
            if aligned == found:
                return found
            start = aligned
        return -1

    def free_pages(self, pfn: int, order: int = 0) -> None:
        """__free_pages(): drop one reference and give the run back if it was the last."""
        index = self._index(pfn)
        if self._state[index] == _HEAD and self._orders.get(index, 0) != order:
            raise self._bad(pfn, f"freed with order {order}, allocated with order {self._orders.get(index, 0)}")
        self.put_page(pfn)

    def get_page(self, pfn: int) -> None:
        """One more reference (include/linux/mm.h: get_page())."""
        count = self.page_count(pfn)
        if self._state[self._index(pfn)] not in (_HEAD, _RESERVED) or count <= 0:
            raise self._bad(pfn, "get_page: page_ref_count(page) <= 0")
        self._memory.write_u32(self._struct(pfn) + PAGE_REFCOUNT, count + 1)

    def put_page(self, pfn: int) -> bool:
        """One reference less; the last one frees the run. Returns True where it did."""
        index = self._index(pfn)
        state, struct = self._state[index], self._array_pa + index * PAGE_STRUCT_SIZE
        count = self._memory.read_u32(struct + PAGE_REFCOUNT)
        if count >> 31:
            count -= 1 << 32
        if state == _FREE:
            raise self._bad(pfn, "put_page_testzero: page_ref_count(page) == 0, the page is free already")
        if state == _TAIL:
            raise self._bad(pfn, "put_page: tail page of a higher-order allocation")
        if count <= 0:
            raise self._bad(pfn, f"put_page_testzero: page_ref_count(page) == {count}")
        if state == _RESERVED and count == 1:
            raise self._bad(pfn, "page dumped because: PAGE_FLAGS_CHECK_AT_FREE flag(s) set (reserved page)")
        self._memory.write_u32(struct + PAGE_REFCOUNT, count - 1)
        if count > 1:
            return False
        if self._memory.read_u32(struct + PAGE_MAPCOUNT) != 0xFFFF_FFFF:
            raise self._bad(pfn, "page dumped because: nonzero mapcount")
        self._give_back(index)
        return True

    def _give_back(self, index: int) -> None:
        owner = self._owners.pop(index)
        count = 1 << self._orders.pop(index, 0)
        self._state[index : index + count] = bytes(count)
        self._usage[owner] -= count
        if not self._usage[owner]:
            del self._usage[owner]
        self._hint = min(self._hint, index)

    def _bad(self, pfn: int, rule: str) -> BadPageStateError:
        struct = self._struct(pfn)
        owner = self._owners.get(self._index(pfn), "nobody")
        count = self.page_count(pfn)
        flags = self._memory.read_u64(struct + PAGE_FLAGS)
        return BadPageStateError(
            f"BUG: Bad page state: pfn:{pfn:05x} refcount:{count} flags:{flags:#x} owner {owner}: {rule}"
        )

    # -- what is known about pages -----------------------------------------------------------------------------------

    def page_count(self, pfn: int) -> int:
        """page_count(): the signed _refcount in guest memory."""
        value = self._memory.read_u32(self._struct(pfn) + PAGE_REFCOUNT)
        return value - (1 << 32) if value >> 31 else value

    def add_mapcount(self, pfn: int, delta: int) -> None:
        """Count a user mapping of the page in (+1) or out (-1): folio_add_file_rmap_pte() and its opposite."""
        where = self._struct(pfn) + PAGE_MAPCOUNT
        count = ((self._memory.read_u32(where) + delta + 1) & 0xFFFF_FFFF) - 1
        if count < -1 or count >= 1 << 31:
            raise self._bad(pfn, "unmapped more often than mapped (_mapcount < -1)")
        self._memory.write_u32(where, count & 0xFFFF_FFFF)

    def page_mapped(self, pfn: int) -> bool:
        """page_mapped(): some user page table maps the page."""
        return self._memory.read_u32(self._struct(pfn) + PAGE_MAPCOUNT) != 0xFFFF_FFFF

    def owner(self, pfn: int) -> str | None:
        """Owner of the allocation that begins at `pfn`; None where none begins there."""
        return self._owners.get(self._index(pfn))

    @property
    def nr_free(self) -> int:
        """Number of free frames."""
        return self._state.count(_FREE)

    def usage(self) -> dict[str, int]:
        """Pages in use by owner, sorted by name."""
        return dict(sorted(self._usage.items()))

    def leaks(self, before: Mapping[str, int]) -> dict[str, int]:
        """Owners that hold more pages than in `before` (an earlier `usage()`), and how many more."""
        return {owner: n - before.get(owner, 0) for owner, n in self.usage().items() if n > before.get(owner, 0)}
