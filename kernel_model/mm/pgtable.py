"""One tree of page tables in guest memory: what init_mm and every user mm are made of.

Mirrors the p?d_offset()/p?d_alloc() ladder of include/linux/pgtable.h and mm/memory.c and the range walkers of
mm/vmalloc.c (vmap_range, vunmap_range) in the architecture's own entry format. Leaves out: page-table locks,
contiguous entries, 1 GiB blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from arch.interface import PAGE_SHIFT, PAGE_SIZE, PageTable, Prot, Walk
from kernel_model.errors import KemuError
from kernel_model.memory import GuestMemory
from kernel_model.mm.page_alloc import PageAllocator

PMD_SHIFT = 21
PMD_SIZE = 1 << PMD_SHIFT


class MappingError(KemuError):
    """A page-table change that breaks a rule (mapping over a mapping, protecting what is not mapped)."""


class PageTableTree:
    """Page tables below `root` (physical address of the pgd). `user` chooses the tables' permission bits."""

    __slots__ = ("_is_table", "_levels", "_memory", "_owner", "_pages", "_user", "pgtable", "root", "tables")

    def __init__(
        self, memory: GuestMemory, pgtable: PageTable, pages: PageAllocator, *, owner: str, user: bool = False
    ) -> None:
        self._memory = memory
        self.pgtable = pgtable
        self._pages = pages
        self._owner = owner
        self._user = user
        self._levels = tuple(shift for _, shift in pgtable.LEVELS)
        self._is_table = pgtable.TABLE_MASK, pgtable.TABLE_BITS, pgtable.PFN_MASK
        self.tables: set[int] = set()  # physical addresses of the tables below the root; never iterated unsorted
        self.root = pages.alloc_pages(0, owner, zero=True) << PAGE_SHIFT

    # -- looking -----------------------------------------------------------------------------------------------------

    def walk(self, va: int) -> Walk:
        """Every level of `va`'s translation."""
        return self.pgtable.walk(self._memory.read_u64, self.root, va)

    def entry_pa(self, va: int, shift: int = PAGE_SHIFT) -> int | None:
        """Physical address of `va`'s entry at the level of `shift`; None where an upper level is empty or a block."""
        table, read = self.root, self._memory.read_u64
        mask, bits, pfn = self._is_table
        for level in self._levels:
            where = table + ((va >> level) & 511) * 8
            if level == shift:
                return where
            entry = read(where)
            if entry & mask != bits:
                return None
            table = entry & pfn
        raise MappingError(f"no page-table level covers 1 << {shift} bytes")

    def pte(self, va: int) -> int:
        """The page's entry, 0 where there is no table for it."""
        where = self.entry_pa(va)
        return 0 if where is None else self._memory.read_u64(where)

    # -- tables ------------------------------------------------------------------------------------------------------

    def alloc_table(self) -> int:
        """A zeroed table that belongs to this tree; its physical address."""
        table = self._pages.alloc_pages(0, self._owner, zero=True) << PAGE_SHIFT
        self.tables.add(table)
        return table

    def ensure(self, va: int, shift: int = PAGE_SHIFT, *, linear: bool = False, early: bool = False) -> int:
        """Physical address of `va`'s entry at the level of `shift`, making the tables above it where they miss.

        `early` marks tables that Linux builds statically: all below the root's own entries.
        """
        table = self.root
        for level in self._levels:
            where = table + ((va >> level) & 511) * 8
            if level == shift:
                return where
            entry = self._memory.read_u64(where)
            if not self.pgtable.present(entry):
                table = self.alloc_table()
                kernpg = early and (level != self._levels[0] or not self.pgtable.SHARED_ROOT)
                entry = self.pgtable.mk_table(table, self._user, linear=linear, early=kernpg)
                self._memory.write_u64(where, entry)
            elif self.pgtable.leaf(entry, level):
                raise MappingError(f"{va:#x}: a block of {1 << level:#x} bytes is mapped where a table is wanted")
            table = self.pgtable.pa(entry)
        raise MappingError(f"no page-table level covers 1 << {shift} bytes")

    def populate(self, where: int, *, linear: bool = False) -> None:
        """Put a new table under the empty entry at physical `where` (pmd_populate() and its kin)."""
        if self._memory.read_u64(where):
            raise MappingError(f"populate: the entry at {where:#x} is not none")
        self._memory.write_u64(where, self.pgtable.mk_table(self.alloc_table(), self._user, linear=linear))

    def split_block(self, va: int) -> None:
        """Replace the 2 MiB block around `va` by a table of pages (set_memory.c: split_large_page())."""
        where = self.entry_pa(va, PMD_SHIFT)
        entry = 0 if where is None else self._memory.read_u64(where)
        if where is None or not self.pgtable.present(entry) or not self.pgtable.leaf(entry, PMD_SHIFT):
            return
        pa, prot = self.pgtable.pa(entry) & -PMD_SIZE, self.pgtable.prot(entry)
        table = self.alloc_table()
        for i in range(512):
            self._memory.write_u64(table + i * 8, self.pgtable.mk_leaf(pa + i * PAGE_SIZE, prot))
        self._memory.write_u64(where, self.pgtable.mk_table(table, self._user))

    # -- mappings ----------------------------------------------------------------------------------------------------

    def map_range(
        self,
        va: int,
        pa: int,
        size: int,
        prot: Prot,
        *,
        linear: bool = False,
        early: bool = False,
        blocks: bool = True,
    ) -> None:
        """Map [va, va + size) to [pa, pa + size), by 2 MiB blocks where both are aligned. MappingError on overlap."""
        if (va | pa | size) & (PAGE_SIZE - 1):
            raise MappingError(f"map {va:#x} to {pa:#x}, {size:#x} bytes: not page aligned")
        end = va + size
        while va < end:
            aligned = not (va | pa) & (PMD_SIZE - 1) and end - va >= PMD_SIZE
            if aligned and not blocks:
                table = self.ensure(va, linear=linear, early=early)
                self._fill_table(table, va, self.pgtable.mk_leaf(pa, prot, linear=linear))
                va += PMD_SIZE
                pa += PMD_SIZE
                continue
            big = aligned and blocks
            shift = PMD_SHIFT if big else PAGE_SHIFT
            where = self.ensure(va, shift, linear=linear, early=early)
            self._install(where, va, self.pgtable.mk_leaf(pa, prot, shift, linear=linear))
            va += 1 << shift
            pa += 1 << shift

    def _fill_table(self, table: int, va: int, first: int) -> None:
        """Write 512 consecutive pages' entries at once, `first` being that of the lowest."""
        entries = self._memory.array(table, 512)
        if entries.any():
            raise MappingError(f"remap: part of the 2 MiB at {va:#x} is mapped already")
        entries[:] = np.arange(first, first + PMD_SIZE, PAGE_SIZE, dtype=np.uint64)

    def map_page(self, va: int, pa: int, prot: Prot) -> None:
        """Map one page. MappingError where something is mapped."""
        self._install(self.ensure(va), va, self.pgtable.mk_leaf(pa, prot))

    def set_pte(self, va: int, entry: int) -> None:
        """set_pte_at(): write the page's entry, whatever was there, making tables as needed."""
        self._memory.write_u64(self.ensure(va), entry)

    def _install(self, where: int, va: int, entry: int) -> None:
        old = self._memory.read_u64(where)
        if old:
            raise MappingError(f"remap: {va:#x} is mapped already (entry {old:#x})")
        self._memory.write_u64(where, entry)

    def unmap_page(self, va: int) -> int:
        """Clear the page's entry and return the old one; 0 where nothing was mapped. Tables stay."""
        where = self.entry_pa(va)
        if where is None:
            return 0
        old = self._memory.read_u64(where)
        self._memory.write_u64(where, 0)
        return old

    def move_table(self, old: int, new: int) -> bool:
        """move_normal_pmd(): the table of the 2 MiB at `old` serves those at `new`, where there is none; or False."""
        source = self.entry_pa(old, PMD_SHIFT)
        entry = 0 if source is None else self._memory.read_u64(source)
        if source is None or not self.pgtable.present(entry) or self.pgtable.leaf(entry, PMD_SHIFT):
            return False
        target = self.ensure(new, PMD_SHIFT)
        if self._memory.read_u64(target):
            return False
        self._memory.write_u64(source, 0)
        self._memory.write_u64(target, entry)
        return True

    def entries(self, va: int, size: int) -> list[tuple[int, int]]:
        """(page address, entry) of each entry in [va, va + size) that is not empty, ascending; no blocks."""
        found: list[tuple[int, int]] = []
        for start, limit in self._stretches(va, va + size):
            where = self.entry_pa(start)
            assert where is not None
            table = self._memory.array(where, (limit - start) >> PAGE_SHIFT)
            found += [(start + int(i) * PAGE_SIZE, int(table[i])) for i in np.flatnonzero(table)]
        return found

    def unmap_range(self, va: int, size: int) -> list[tuple[int, int]]:
        """Clear every entry in [va, va + size); the (page address, old entry) pairs that were not empty, ascending.

        Spans without tables are skipped whole, so a sparse range of 4 GiB costs what it holds. A block is split
        where the range covers only part of it.
        """
        found: list[tuple[int, int]] = []
        for start, limit in self._stretches(va, va + size):
            self.split_block(start)
            where = self.entry_pa(start)
            assert where is not None
            for page in range(start, limit, PAGE_SIZE):
                if old := self._memory.read_u64(where):
                    found.append((page, old))
                    self._memory.write_u64(where, 0)
                where += 8
        return found

    def _stretches(self, va: int, end: int) -> Iterator[tuple[int, int]]:
        """(start, end) of each part of [va, end) that one table, or one block, serves; ascending."""
        while va < end:
            span = self._hole(va)
            if span:
                va = (va & -span) + span
                continue
            limit = min(end, (va & -PMD_SIZE) + PMD_SIZE)
            yield va, limit
            va = limit

    def _hole(self, va: int) -> int:
        """Bytes that the first empty level above the pte covers; 0 where `va` has a pte table or a block."""
        table = self.root
        for level in self._levels[:-1]:
            entry = self._memory.read_u64(table + ((va >> level) & 511) * 8)
            if not self.pgtable.present(entry):
                return 1 << level
            if self.pgtable.leaf(entry, level):
                return 0
            table = self.pgtable.pa(entry)
        return 0

    def protect(self, va: int, size: int, prot: Prot) -> None:
        """Give every page of [va, va + size) new permissions; MappingError where one is not mapped."""
        end = va + size
        while va < end:
            where = self.entry_pa(va, PMD_SHIFT)
            entry = 0 if where is None else self._memory.read_u64(where)
            shift = PAGE_SHIFT
            if where is not None and self.pgtable.present(entry) and self.pgtable.leaf(entry, PMD_SHIFT):
                if not va & (PMD_SIZE - 1) and end - va >= PMD_SIZE:
                    shift = PMD_SHIFT
                else:
                    self.split_block(va)
            where = self.entry_pa(va, shift)
            entry = 0 if where is None else self._memory.read_u64(where)
            if where is None or not self.pgtable.present(entry):
                raise MappingError(f"protect: {va:#x} is not mapped")
            self._memory.write_u64(where, self.pgtable.mk_leaf(self.pgtable.pa(entry), prot, shift))
            va += 1 << shift

    def free_range(self, addr: int, end: int, floor: int, ceiling: int) -> list[int]:
        """free_pgd_range(): take every table out of the tree that serves [addr, end) and nothing outside of
        [floor, ceiling) (0: no ceiling); their physical addresses, lowest levels first.

        The caller flushes TLBs, then hands them to `put_tables()`. The range maps nothing any more.
        """
        addr &= -PMD_SIZE
        if addr < floor:
            addr += PMD_SIZE
        ceiling = ceiling & -PMD_SIZE or (1 << 64 if not ceiling else 0)
        if not ceiling:
            return []
        if end > ceiling:
            end -= PMD_SIZE
        freed: list[int] = []
        if addr < end:
            self._free_below(self.root, 0, addr, end, floor, ceiling, freed)
        return freed

    def _free_below(
        self, table: int, depth: int, addr: int, end: int, floor: int, ceiling: int, freed: list[int]
    ) -> None:
        """free_p?d_range(): what `table`'s entries for [addr, end) point to, where that serves nothing else."""
        size = 1 << self._levels[depth]
        while addr < end:
            start, following = addr & -size, min(end, (addr & -size) + size)
            where = table + ((addr >> self._levels[depth]) & 511) * 8
            entry = self._memory.read_u64(where)
            if self.pgtable.present(entry) and not self.pgtable.leaf(entry, self._levels[depth]):
                below = self.pgtable.pa(entry)
                if size > PMD_SIZE:
                    self._free_below(below, depth + 1, addr, following, floor, ceiling, freed)
                if start >= floor and start + size <= ceiling & -size:
                    self._memory.write_u64(where, 0)
                    self.tables.discard(below)
                    freed.append(below)
            addr = following

    def put_tables(self, tables: list[int]) -> None:
        """tlb_remove_table(): give back tables that no CPU walks any more."""
        for table in tables:
            self._pages.put_page(table >> PAGE_SHIFT)

    def free_tables(self) -> None:
        """Give the root and every table back (free_pgtables() and pgd_free()); the tree is dead afterwards."""
        for table in sorted(self.tables):
            self._pages.put_page(table >> PAGE_SHIFT)
        self.tables.clear()
        self._pages.put_page(self.root >> PAGE_SHIFT)
