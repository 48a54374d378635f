"""Address spaces as plain dicts of pages: what the model's VMAs, entries and page counts are compared with. Here:
mmap(), munmap() and mprotect(); reference_calls.py has the rest.

A page knows the VMA it lies in (an object that all pages of the VMA share) and the frame that its entry maps. There is
no tree and no range: a VMA is the run of pages that share one object, and every rule is a loop over page numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

READ, WRITE, EXEC, SHARED = 1, 2, 4, 8
ACCESS = READ | WRITE | EXEC
MAY = 0x70
MAYSHARE, GROWSDOWN, DONTCOPY, ACCOUNT, NORESERVE, WIPEONFORK = 0x80, 0x100, 0x20000, 0x100000, 0x200000, 0x2000000
ENOMEM, EAGAIN, EFAULT, EEXIST, EINVAL = 12, 11, 14, 17, 22
GUARD = 256  # pages that a stack keeps clear below


@dataclass(eq=False)
class Frame:
    """A page of RAM: two bytes stand for all of it. `extra`: references that are no mappings."""

    even: int = 0
    odd: int = 0
    extra: int = 0


ZERO = Frame()


@dataclass(eq=False)
class File:
    """Frames by page number."""

    frames: list[Frame]


@dataclass(eq=False)
class Anon:
    """Which memory was written together; `forked`: it came from a parent."""

    forked: bool = False


@dataclass(eq=False)
class Vma:
    """`shift`: page of the file (where there is none: of the address space) minus page number."""

    flags: int
    shift: int = 0
    file: object | None = None
    anon: Anon | None = None


@dataclass(eq=False)
class Page:
    vma: Vma
    frame: Frame | None = None


def same_memory(a: Vma, b: Vma) -> bool:
    return a.file is b.file and a.shift == b.shift


def takes(target: Vma, taken: Vma) -> bool:
    """Whether a VMA next to `target` may become part of it."""
    if not same_memory(target, taken) or target.flags != taken.flags:
        return False
    if target.anon is None or taken.anon is None:
        other = target.anon or taken.anon
        return other is None or not other.forked
    return target.anon is taken.anon


@dataclass(eq=False)
class Pages:
    """The mappings of one process.

    `pages` is keyed by address / 4096; `top` is the page below which the search for room begins.
    """

    top: int
    max_map_count: int
    start_brk: int = 0
    brk: int = 0
    pages: dict[int, Page] = field(default_factory=dict)

    # -- looking -----------------------------------------------------------------------------------------------------

    def vmas(self) -> list[tuple[int, int, Vma]]:
        runs: list[tuple[int, int, Vma]] = []
        for at in sorted(self.pages):
            vma = self.pages[at].vma
            if runs and runs[-1][2] is vma:
                assert runs[-1][1] == at, "a VMA has no holes"
                runs[-1] = (runs[-1][0], at + 1, vma)
            else:
                runs.append((at, at + 1, vma))
        return runs

    @property
    def map_count(self) -> int:
        return len({id(page.vma) for page in self.pages.values()})

    def vma_at(self, at: int) -> Vma | None:
        return self.pages[at].vma if at in self.pages else None

    def starts(self, at: int) -> bool:
        return self.vma_at(at - 1) is not self.vma_at(at)

    def _free(self, at: int, count: int) -> bool:
        return not any(page in self.pages for page in range(at, at + count))

    def _clear_of_stacks(self, at: int, count: int) -> int | None:
        """None, or the start of the stack above that [at, at + count) comes too near to."""
        above = min((page for page in self.pages if page >= at + count), default=None)
        near = above is not None and self.pages[above].vma.flags & GROWSDOWN and at + count > above - GUARD
        return above if near else None

    def highest(self, low: int, high: int, count: int) -> int | None:
        """Room for `count` pages in [low, high), searched from above as Linux does, which jumps below a stack's gap."""
        at = high - count
        while at >= low:
            if not self._free(at, count):
                at -= 1
            elif (stack := self._clear_of_stacks(at, count)) is None:
                return at
            else:
                at = stack - GUARD - count
        return None

    def lowest(self, low: int, high: int, count: int) -> int | None:
        for at in range(low, high - count + 1):
            if self._free(at, count) and self._clear_of_stacks(at, count) is None:
                return at
        return None

    def place(self, hint: int | None, count: int) -> int:
        if hint is not None and self._free(hint, count) and self._clear_of_stacks(hint, count) is None:
            return hint
        at = self.highest(16, self.top, count)
        assert at is not None
        return at

    # -- changing ----------------------------------------------------------------------------------------------------

    def cut(self, at: int) -> None:
        """A VMA begins at `at`."""
        old = self.vma_at(at)
        if old is None or self.starts(at):
            return
        new = replace(old)
        while self.vma_at(at) is old:
            self.pages[at].vma = new
            at += 1

    def _paint(self, at: int, vma: Vma) -> None:
        """The whole VMA at `at` becomes part of `vma`."""
        old = self.pages[at].vma
        for page in self.pages.values():
            if page.vma is old:
                page.vma = vma

    def _merge(self, start: int, end: int, like: Vma, left: bool, right: bool) -> bool:
        """Give [start, end), which shall be `like`, to the neighbours that are asked and take it."""
        low, high = self.vma_at(start - 1), self.vma_at(end)
        left = left and low is not None and takes(low, like)
        right = right and high is not None and takes(high, like)
        if left and right and low.anon and high.anon and low.anon is not high.anon:
            right = False
        if not (left or right):
            return False
        target = low if left else high
        target.anon = target.anon or (high.anon if right else None) or like.anon
        for at in range(start, end):
            self.pages[at].vma = target
        if left and right:
            self._paint(end, target)
        return True

    def unmap(self, start: int, count: int) -> int:
        end = start + count
        middle = self.vma_at(start)
        if middle and not self.starts(start) and middle is self.vma_at(end) and self.map_count >= self.max_map_count:
            return -ENOMEM
        self.cut(start)
        self.cut(end)
        for at in range(start, end):
            self.pages.pop(at, None)
        return 0

    def mmap(self, at: int | None, count: int, vma: Vma, pgoff: int | None, *, fixed: bool, noreplace: bool) -> int:
        """Page number or -errno. `pgoff`: None for memory whose pages are counted by their address."""
        if self.map_count > self.max_map_count:
            return -ENOMEM
        if not fixed and not noreplace:
            at = self.place(at, count)
        if noreplace and any(page in self.pages for page in range(at, at + count)):
            return -EEXIST
        if error := self.unmap(at, count):
            return error
        vma.shift = 0 if pgoff is None else pgoff - at
        if vma.flags & (SHARED | WRITE | NORESERVE) == WRITE:
            vma.flags |= ACCOUNT
        for page in range(at, at + count):
            self.pages[page] = Page(vma)
        self._merge(at, at + count, vma, True, True)
        return at

    def modify(self, start: int, end: int, flags: int) -> int:
        """vma_modify_flags() of a part of one VMA."""
        vma = self.pages[start].vma
        first, last = self.starts(start), self.starts(end)
        if self._merge(start, end, replace(vma, flags=flags), first, last):
            return 0
        for at, whole in ((start, first), (end, last)):
            if not whole:
                if self.map_count >= self.max_map_count:
                    return -ENOMEM
                self.cut(at)
        self.pages[start].vma.flags = flags
        return 0

    def protect(self, start: int, count: int, prot: int) -> int:
        end = start + count
        while start < end:
            vma = self.vma_at(start)
            if vma is None:
                return -ENOMEM
            upto = start + 1
            while upto < end and self.vma_at(upto) is vma:
                upto += 1
            flags = vma.flags & ~ACCESS | prot
            if flags != vma.flags:
                if prot & WRITE:
                    if not vma.flags & (ACCOUNT | WRITE | SHARED | NORESERVE):
                        flags |= ACCOUNT
                elif vma.file is None and vma.anon is None:
                    flags &= ~ACCOUNT
                if error := self.modify(start, upto, flags):
                    return error
            start = upto
        return 0
