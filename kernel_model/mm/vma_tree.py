"""The VMAs of one mm in the order of their addresses, and the holes between them.

Stands for mm's maple tree (lib/maple_tree.c) in what it finds, not in its shape: runs of at most 512 VMAs, each of
which knows the largest hole below one of its VMAs. Finding and inserting look at one run, the search for a hole skips
every run that cannot hold it (mas_empty_area(), mas_empty_area_rev()).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_model.mm.vma import VmArea

_RUN = 512


class _Run:
    """`starts` and `vmas` go together. `gap` is an upper bound of the holes that lie below its VMAs, -1: unknown."""

    __slots__ = ("gap", "starts", "vmas")

    def __init__(self, starts: list[int], vmas: list[VmArea]) -> None:
        self.starts = starts
        self.vmas = vmas
        self.gap = -1


class VmaTree:
    """Keyed by vm_start, which must not change while a VMA is in the tree."""

    __slots__ = ("_firsts", "_runs", "size")

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._firsts: list[int] = []  # vm_start of the first VMA of each run
        self.size = 0

    def __iter__(self) -> Iterator[VmArea]:
        for run in self._runs:
            yield from run.vmas

    # -- finding -----------------------------------------------------------------------------------------------------

    def find(self, addr: int) -> VmArea | None:
        """The first VMA that ends above `addr`."""
        r = bisect_right(self._firsts, addr) - 1
        if r < 0:
            return self._runs[0].vmas[0] if self._runs else None
        run = self._runs[r]
        i = bisect_right(run.starts, addr) - 1
        if run.vmas[i].vm_end > addr:
            return run.vmas[i]
        if i + 1 < len(run.vmas):
            return run.vmas[i + 1]
        return self._runs[r + 1].vmas[0] if r + 1 < len(self._runs) else None

    def before(self, addr: int) -> VmArea | None:
        """The last VMA that begins below `addr`."""
        r = bisect_right(self._firsts, addr - 1) - 1
        if r < 0:
            return None
        run = self._runs[r]
        return run.vmas[bisect_right(run.starts, addr - 1) - 1]

    # -- changing ----------------------------------------------------------------------------------------------------

    def insert(self, vma: VmArea) -> None:
        """Add a VMA; none of that vm_start is there."""
        self.size += 1
        start = vma.vm_start
        if not self._runs:
            self._runs, self._firsts = [_Run([start], [vma])], [start]
            return
        r = max(bisect_right(self._firsts, start) - 1, 0)
        run = self._runs[r]
        i = bisect_right(run.starts, start)
        run.starts.insert(i, start)
        run.vmas.insert(i, vma)
        self._firsts[r] = run.starts[0]
        self._stale(r, i)
        if len(run.vmas) > _RUN:
            half = len(run.vmas) // 2
            upper = _Run(run.starts[half:], run.vmas[half:])
            del run.starts[half:], run.vmas[half:]
            self._runs.insert(r + 1, upper)
            self._firsts.insert(r + 1, upper.starts[0])

    def remove(self, vma: VmArea) -> None:
        """Take a VMA out. KeyError where it is not there."""
        r = bisect_right(self._firsts, vma.vm_start) - 1
        run = self._runs[r] if r >= 0 else None
        i = bisect_right(run.starts, vma.vm_start) - 1 if run else 0
        if run is None or run.vmas[i] is not vma:
            raise KeyError(f"VMA at {vma.vm_start:#x}")
        self.size -= 1
        del run.starts[i], run.vmas[i]
        self._stale(r, i)
        if run.vmas:
            self._firsts[r] = run.starts[0]
        else:
            del self._runs[r], self._firsts[r]

    def _stale(self, r: int, i: int) -> None:
        """The VMA at `i` of run `r` came or went: the hole below it and the one below its successor are others."""
        self._runs[r].gap = -1
        if i >= len(self._runs[r].vmas) - 1 and r + 1 < len(self._runs):
            self._runs[r + 1].gap = -1

    def end_changed(self, vma: VmArea) -> None:
        """vm_end of `vma` moved."""
        r = bisect_right(self._firsts, vma.vm_start) - 1
        self._stale(r, bisect_right(self._runs[r].starts, vma.vm_start) - 1)

    # -- holes -------------------------------------------------------------------------------------------------------

    def _gap(self, r: int) -> int:
        run = self._runs[r]
        if run.gap < 0:
            end = self._runs[r - 1].vmas[-1].vm_end if r else 0
            for vma in run.vmas:
                run.gap = max(run.gap, vma.vm_start - end)
                end = vma.vm_end
        return run.gap

    def highest_hole(self, low: int, high: int, length: int, guard: int) -> int | None:
        """vm_unmapped_area() from above: highest address in [low, high - length] with `length` free bytes.

        Where that is too near to a stack, the search goes on `guard` bytes below the stack, whatever lies in between.
        """
        while (where := self._highest(low, high, length)) is not None:
            above = self.find(where)
            usable = high if above is None else above.usable_below(guard)
            if where + length <= usable:
                return where
            high = usable
        return None

    def _highest(self, low: int, high: int, length: int) -> int | None:
        """mas_empty_area_rev()"""
        for r in range(bisect_right(self._firsts, high - 1) - 1, -1, -1):
            run = self._runs[r]
            following = self._runs[r + 1].vmas[0] if r + 1 < len(self._runs) else None
            i = top = bisect_right(run.starts, high - 1) - 1
            while i >= 0:
                above = run.vmas[i + 1] if i + 1 < len(run.vmas) else following
                where = (high if above is None else min(high, above.vm_start)) - length
                if where < low:
                    return None
                if where >= run.vmas[i].vm_end:
                    return where
                if i == top and self._gap(r) < length:
                    break  # what is left of this run lies below its VMAs
                i -= 1
        first = self._runs[0].vmas[0].vm_start if self._runs else high
        where = min(first, high) - length
        return where if where >= low else None

    def lowest_hole(self, low: int, high: int, length: int, guard: int) -> int | None:
        """Lowest such address in [low, high - length]."""
        at = low
        for r in range(max(bisect_right(self._firsts, low) - 1, 0), len(self._runs)):
            run = self._runs[r]
            if self._gap(r) < length:
                at = max(at, run.vmas[-1].vm_end)
                continue
            for vma in run.vmas:
                if vma.vm_end <= at:
                    continue
                if vma.usable_below(guard) - at >= length:
                    return at if at + length <= high else None
                at = vma.vm_end
        return at if at + length <= high else None
