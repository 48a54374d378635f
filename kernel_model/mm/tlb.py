"""How the translations of a user address space go, and the pages behind them only after that.

Mirrors struct mmu_gather and the users of asm/tlbflush.h. How CPUs are reached is guest text (mm/mmu_gather.c, x86-64's
arch/x86/mm/tlb.c); where no task can run meanwhile, it happens at once. Leaves out: batches of limited size, RCU
freeing of tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from arch.interface import PAGE_SIZE
from kernel_model.sched.requests import GuestCall, Sleeping

if TYPE_CHECKING:
    from kernel_model.mm.vma import MmStruct


class TlbFlusher(Protocol):
    """Addresses in bytes. Each returns when no CPU has the translations any more."""

    def tlb_finish_mmu(self, mm: MmStruct, start: int, end: int, *, freed_tables: bool) -> Sleeping:
        """tlb_finish_mmu(): of [start, end), which was unmapped or made stricter."""
        ...

    def flush_tlb_range(self, mm: MmStruct, start: int, end: int) -> Sleeping:
        """flush_tlb_range(): of [start, end)."""
        ...

    def ptep_clear_flush(self, mm: MmStruct, address: int) -> Sleeping:
        """ptep_clear_flush(): of the page at `address`."""
        ...

    def flush_tlb_mm(self, mm: MmStruct) -> Sleeping:
        """flush_tlb_mm(): of all user memory."""
        ...


class FlushAtOnce:
    """Every CPU forgets at once: MmStruct.flush()."""

    def tlb_finish_mmu(self, mm: MmStruct, start: int, end: int, *, freed_tables: bool) -> Sleeping:
        """See TlbFlusher."""
        mm.flush(start, end)
        return
        yield

    def flush_tlb_range(self, mm: MmStruct, start: int, end: int) -> Sleeping:
        """See TlbFlusher."""
        return self.tlb_finish_mmu(mm, start, end, freed_tables=False)

    def ptep_clear_flush(self, mm: MmStruct, address: int) -> Sleeping:
        """See TlbFlusher."""
        return self.tlb_finish_mmu(mm, address, address + PAGE_SIZE, freed_tables=False)

    def flush_tlb_mm(self, mm: MmStruct) -> Sleeping:
        """See TlbFlusher."""
        return self.tlb_finish_mmu(mm, 0, mm.task_size, freed_tables=False)


class FlushByGuest:
    """Guest text does it, and waits for the other CPUs."""

    def tlb_finish_mmu(self, mm: MmStruct, start: int, end: int, *, freed_tables: bool) -> Sleeping:
        """See TlbFlusher."""
        yield GuestCall("tlb_finish_mmu", mm.addr, start, end, freed_tables)

    def flush_tlb_range(self, mm: MmStruct, start: int, end: int) -> Sleeping:
        """See TlbFlusher."""
        yield GuestCall("flush_tlb_range", mm.addr, start, end)

    def ptep_clear_flush(self, mm: MmStruct, address: int) -> Sleeping:
        """See TlbFlusher."""
        yield GuestCall("ptep_clear_flush", mm.addr, address)

    def flush_tlb_mm(self, mm: MmStruct) -> Sleeping:
        """See TlbFlusher."""
        yield GuestCall("flush_tlb_mm", mm.addr)


AT_ONCE = FlushAtOnce()


class MmuGather:
    """struct mmu_gather: what was unmapped and waits to be freed."""

    def __init__(self, mm: MmStruct) -> None:
        self._mm = mm
        self._pages: list[int] = []  # a reference to each
        self._tables: list[int] = []
        self._start, self._end = mm.task_size, 0

    def unmap(self, start: int, size: int) -> int:
        """unmap_page_range(): clear the entries of [start, start + size); how many there were."""
        mm = self._mm
        cleared = mm.tree.unmap_range(start, size)
        if cleared:
            self._adjust_range(start, start + size)
        for _, entry in cleared:
            pfn = mm.frame(entry)
            if pfn is not None:
                mm.pages.add_mapcount(pfn, -1)
                self._pages.append(pfn)
        return len(cleared)

    def free_pgd_range(self, start: int, end: int, floor: int, ceiling: int) -> None:
        """Take out the tables of [start, end), where nothing is mapped, within [floor, ceiling) (0: no end)."""
        tables = self._mm.tree.free_range(start, end, floor, ceiling)
        if tables:
            self._tables += tables
            self._adjust_range(start, end)

    def _adjust_range(self, start: int, end: int) -> None:
        """__tlb_adjust_range()"""
        self._start, self._end = min(self._start, start), max(self._end, end)

    def finish(self, tlb: TlbFlusher) -> Sleeping:
        """tlb_finish_mmu(): flush what was gathered, then free it."""
        if self._end:
            yield from tlb.tlb_finish_mmu(self._mm, self._start, self._end, freed_tables=bool(self._tables))
        for pfn in self._pages:
            self._mm.pages.put_page(pfn)
        if self._tables:
            self._mm.tree.put_tables(self._tables)
