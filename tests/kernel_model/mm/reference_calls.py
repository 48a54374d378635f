"""What processes do with the pages of reference.py: faults, fork(), brk(), madvise(), mremap()."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.kernel_model.mm.reference import (
    ACCESS,
    ACCOUNT,
    DONTCOPY,
    EAGAIN,
    EFAULT,
    EINVAL,
    ENOMEM,
    GROWSDOWN,
    GUARD,
    MAY,
    READ,
    SHARED,
    WIPEONFORK,
    WRITE,
    ZERO,
    Anon,
    File,
    Frame,
    Page,
    Pages,
    Vma,
    same_memory,
)


class Fault(Exception):
    """SIGSEGV; .args[0]: whether something is mapped there."""


@dataclass(eq=False)
class Space(Pages):
    """One process."""

    # -- brk() and madvise() -----------------------------------------------------------------------------------------

    def move_brk(self, end: int) -> int:
        """brk(), in pages: where the heap ends afterwards."""
        old = self.brk
        if end < old:
            there = any(page in self.pages for page in range(end, old))
            if end < self.start_brk or not there or self.unmap(end, old - end):
                return old
        elif end > old:
            above = min((page for page in self.pages if page >= old), default=None)
            if above is not None and end + 1 > above - (GUARD if self.pages[above].vma.flags & GROWSDOWN else 0):
                return old
            if self.map_count > self.max_map_count:
                return old
            vma = Vma(READ | WRITE | MAY | ACCOUNT)
            self.pages |= {page: Page(vma) for page in range(old, end)}
            self._merge(old, end, vma, old > self.start_brk, False)
        self.brk = end
        return end

    def advise(self, start: int, count: int, change: Callable[[int, int, Vma], int]) -> int:
        """madvise(): `change` of every VMA's part of the range; holes are an error, but no reason to stop."""
        result, end = 0, start + count
        while start < end:
            vma = self.vma_at(start)
            upto = start + 1
            while upto < end and self.vma_at(upto) is vma:
                upto += 1
            if vma is None:
                result = -ENOMEM
            elif error := change(start, upto, vma):
                return error
            start = upto
        return result

    def set_flags(self, start: int, end: int, flags: int) -> int:
        """What advice about a VMA does; it never says ENOMEM."""
        if flags == self.pages[start].vma.flags:
            return 0
        return -EAGAIN if self.modify(start, end, flags) else 0

    def drop(self, start: int, end: int) -> int:
        for page in range(start, end):
            self.pages[page].frame = None
        return 0

    # -- mremap() ----------------------------------------------------------------------------------------------------

    def mremap(self, at: int, old: int, new: int, move: bool, to: int | None, keep: bool, hint: int | None) -> int:
        """Page number or -errno. `to`: MREMAP_FIXED; `keep`: MREMAP_DONTUNMAP, which may have a `hint`."""
        if not new:
            return -EINVAL
        if to is not None or keep:
            place = hint if to is None else to
            if not move or keep and old != new or at < place + new and place < at + old:
                return -EINVAL
            if self.map_count + 2 >= self.max_map_count - 3:
                return -ENOMEM
        if to is not None and old == new:
            return self._move_all(at, old, to, keep)
        vma = self.vma_at(at)
        if vma is None:
            return -EFAULT
        if to is None and not keep:
            if new <= old:
                return self.unmap(at + new, old - new) or at if new < old else at
            return self._grow(at, old, new, vma, move)
        if error := self._one_vma(at, min(old, new), vma):
            return error
        if to is not None and (error := self.unmap(to, new)):
            return error
        if new < old and (error := self.unmap(at + new, old - new)):
            return error
        return self._move(at, min(old, new), new, self.place(hint, new) if to is None else to, keep)

    def _one_vma(self, at: int, count: int, vma: Vma) -> int:
        if not count and not vma.flags & SHARED:
            return -EINVAL
        return -EFAULT if any(self.vma_at(page) is not vma for page in range(at, at + count)) else 0

    def _grow(self, at: int, old: int, new: int, vma: Vma, move: bool) -> int:
        if error := self._one_vma(at, old, vma):
            return error
        end = at + old
        if old and self.starts(end) and self._free(end, new - old):
            more = replace(vma)
            self.pages |= {page: Page(more) for page in range(end, at + new)}
            assert self._merge(end, at + new, more, True, True)
            return at
        return self._move(at, old, new, self.place(None, new), False) if move else -ENOMEM

    def _move_all(self, at: int, count: int, to: int, keep: bool) -> int:
        """Every VMA of the range in its turn."""
        if at not in self.pages:
            return -EFAULT
        start, end = at, at + count
        while start < end:
            vma = self.vma_at(start)
            upto = start + 1
            while upto < end and self.vma_at(upto) is vma:
                upto += 1
            if vma is not None:
                target = to + start - at
                if error := self.unmap(target, upto - start):
                    return error
                if (got := self._move(start, upto - start, upto - start, target, keep)) < 0:
                    return got
            start = upto
        return to

    def _move(self, at: int, old: int, new: int, to: int, keep: bool) -> int:
        if self.map_count >= self.max_map_count - 3:
            return -ENOMEM
        vma = self.pages[at].vma
        whole = self.starts(at) and self.starts(at + old)
        copy = replace(vma, shift=vma.shift + at - to)
        if vma.file is None and vma.anon is None:
            copy.shift = 0
        frames = [self.pages[at + i].frame for i in range(old)]
        self.drop(at, at + old)
        self.pages |= {to + i: Page(copy, frames[i] if i < old else None) for i in range(new)}
        self._merge(to, to + new, copy, True, True)
        if not keep:
            self.unmap(at, old)
        elif whole and self.pages[at].vma is not self.pages[to].vma:
            vma.anon = None
        return to

    # -- faults ------------------------------------------------------------------------------------------------------

    def _reach(self, at: int) -> Page:
        """The page at `at`; a stack above grows down to it where it may."""
        if at in self.pages:
            return self.pages[at]
        above = min((page for page in self.pages if page > at), default=None)
        below = max((page for page in self.pages if page < at), default=None)
        if above is None or not self.pages[above].vma.flags & GROWSDOWN:
            raise Fault(False)
        if below is not None and at - below - 1 < GUARD:
            flags = self.pages[below].vma.flags
            if flags & ACCESS and not flags & GROWSDOWN:
                raise Fault(False)
        for page in range(at, above):
            self.pages[page] = Page(self.pages[above].vma)
        return self.pages[at]

    def _prepare(self, at: int) -> None:
        """The VMA of a page that is about to be written for the first time."""
        vma = self.pages[at].vma
        low = high = at
        while self.vma_at(low) is vma:
            low -= 1
        while self.vma_at(high) is vma:
            high += 1
        for near in (self.vma_at(high), self.vma_at(low)):
            alike = near is not None and same_memory(near, vma) and not (near.flags ^ vma.flags) & ~ACCESS
            if vma.anon is None and alike and near.anon is not None and not near.anon.forked:
                vma.anon = near.anon
        vma.anon = vma.anon or Anon()

    def _backing(self, at: int) -> Frame:
        vma = self.pages[at].vma
        return vma.file.frames[at + vma.shift] if isinstance(vma.file, File) else ZERO

    def load(self, at: int) -> int:
        page = self._reach(at)
        if not page.vma.flags & ACCESS:
            raise Fault(True)
        if page.frame is None:
            page.frame = self._backing(at)
        return page.frame.even

    def store(self, at: int, byte: int, references: Counter[Frame]) -> None:
        """`references`: of all frames, before this."""
        page = self._reach(at)
        if not page.vma.flags & WRITE:
            raise Fault(True)
        if page.vma.flags & SHARED:
            page.frame = self._backing(at)
        else:
            self._own(at, references)
        if byte % 2:
            page.frame.odd = byte
        else:
            page.frame.even = byte

    def _own(self, at: int, references: Counter[Frame]) -> None:
        """The page gets a frame that nobody else has."""
        page = self.pages[at]
        if page.frame is None or page.frame is ZERO or references[page.frame] > 1:
            self._prepare(at)
            page.frame = replace(page.frame or self._backing(at), extra=0)

    def populate(self, start: int, count: int, write: bool, references: Callable[[], Counter[Frame]]) -> int:
        """MADV_POPULATE_READ, MADV_POPULATE_WRITE"""
        for at in range(start, start + count):
            page = self.pages.get(at)
            if page is None:
                return -ENOMEM
            if not page.vma.flags & (WRITE if write else READ):
                return -EINVAL
            if not write or page.vma.flags & SHARED:
                page.frame = page.frame or self._backing(at)
            else:
                self._own(at, references())
        return 0

    # -- processes ---------------------------------------------------------------------------------------------------

    def fork(self) -> Space:
        child = Space(self.top, self.max_map_count, self.start_brk, self.brk)
        for start, end, vma in self.vmas():
            if vma.flags & DONTCOPY:
                continue
            copied = vma.anon is not None and not vma.flags & WIPEONFORK
            new = replace(vma, anon=Anon(forked=True) if copied else None)
            for at in range(start, end):
                child.pages[at] = Page(new, self.pages[at].frame if copied else None)
        return child


def references(spaces: list[Space]) -> Counter[Frame]:
    """How often each frame is held; the zero page is not counted."""
    counts: Counter[Frame] = Counter()
    for space in spaces:
        for page in space.pages.values():
            if page.frame is not None and page.frame is not ZERO:
                counts[page.frame] += 1
            if isinstance(page.vma.file, File):
                counts.update({frame: 0 for frame in page.vma.file.frames})
    for frame in counts:
        counts[frame] += frame.extra
    return counts
