"""Free page ranges of an arena: a bitmap kept as ranges, allocated by best fit.

Mirrors kernel/bpf/range_tree.c: a set bit is a free page. The kernel keeps the ranges in two red-black trees, one by
position and one by size; here a list sorted by position and one by (size, age) answer the same questions in the
same order, ties included: among the smallest sufficient ranges the one that was inserted last is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sortedcontainers import SortedDict, SortedList

from kernel_model.kcall import kcall

ENOENT, ESRCH = 2, 3
_U32 = 0xFFFFFFFF


@dataclass(slots=True)
class RangeTree:
    """One struct range_tree. Positions and lengths are pages, unsigned 32 bit."""

    _by_start: SortedDict = field(default_factory=SortedDict)  # start -> (last, age)
    _by_size: SortedList = field(default_factory=SortedList)  # (-size, age, start)
    _age: int = 0

    def ranges(self) -> list[tuple[int, int]]:
        """The free ranges as (start, last inclusive), by position."""
        return [(start, last) for start, (last, _) in self._by_start.items()]

    def _insert(self, start: int, last: int) -> None:
        self._age += 1
        self._by_start[start] = (last, self._age)
        self._by_size.add((-(last - start + 1), self._age, start))

    def _remove(self, start: int) -> int:
        last, age = self._by_start.pop(start)
        self._by_size.remove((-(last - start + 1), age, start))
        return int(last)

    def _first_overlap(self, start: int, last: int) -> tuple[int, int] | None:
        """Leftmost range that has a page in [start, last]."""
        index = self._by_start.bisect_right(start) - 1
        if index >= 0:
            at = self._by_start.keys()[index]
            if self._by_start[at][0] >= start:
                return at, self._by_start[at][0]
        if index + 1 < len(self._by_start):
            at = self._by_start.keys()[index + 1]
            if at <= last:
                return at, self._by_start[at][0]
        return None

    def find(self, length: int) -> int:
        """range_tree_find(): start of the best-fitting range of at least `length` pages, -ENOENT if there is none."""
        index = self._by_size.bisect_right((-length, self._age + 1, 0)) - 1
        return int(self._by_size[index][2]) if index >= 0 else -ENOENT

    def is_set(self, start: int, length: int) -> bool:
        """True where every page of the range is free (is_range_tree_set() == 0)."""
        last = start + length - 1
        found = self._first_overlap(start, last)
        return found is not None and found[0] <= start and found[1] >= last

    def clear(self, start: int, length: int) -> None:
        """range_tree_clear(): take the range out, whether or not it was free; neighbours are split."""
        last = start + length - 1
        while (found := self._first_overlap(start, last)) is not None:
            at, end = found
            self._remove(at)
            if at < start:
                self._insert(at, start - 1)
            if end > last:
                self._insert(last + 1, end)
                return

    def set(self, start: int, length: int) -> None:
        """range_tree_set(): make the range free, merged with free neighbours."""
        last = start + length - 1
        if self.is_set(start, length):
            return
        self.clear(start, length)
        left = self._first_overlap(start - 1, start - 1) if start else None
        right = self._first_overlap(last + 1, last + 1)
        if left is not None:
            self._remove(left[0])
            start = left[0]
        if right is not None:
            last = self._remove(right[0])
        self._insert(start, last)


@dataclass(slots=True)
class RangeTrees:
    """The range_tree_*() functions that guest text calls, by the guest address of the struct range_tree."""

    _trees: dict[int, RangeTree] = field(default_factory=dict)

    def at(self, rt: int) -> RangeTree:
        """The tree whose struct range_tree lies at guest address `rt`; KeyError before range_tree_init()."""
        return self._trees[rt]

    @kcall
    def range_tree_init(self, rt: int) -> None:
        """Start with no page free."""
        self._trees[rt] = RangeTree()

    @kcall
    def range_tree_destroy(self, rt: int) -> None:
        """Forget the tree."""
        self._trees.pop(rt, None)

    @kcall
    def range_tree_find(self, rt: int, len: int) -> int:
        """Start page, or -ENOENT."""
        return self._trees[rt].find(len)

    @kcall
    def range_tree_set(self, rt: int, start: int, len: int) -> int:
        """0; node allocation (the kernel's -ENOMEM) cannot fail here."""
        self._trees[rt].set(start, len)
        return 0

    @kcall
    def range_tree_clear(self, rt: int, start: int, len: int) -> int:
        """0; see range_tree_set()."""
        self._trees[rt].clear(start, len)
        return 0

    @kcall
    def is_range_tree_set(self, rt: int, start: int, len: int) -> int:
        """0 where all of the range is free, else -ESRCH."""
        return 0 if self._trees[rt].is_set(start, len) else -ESRCH
