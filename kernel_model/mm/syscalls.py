"""What mmap(), munmap(), mprotect() and madvise() do once they hold their lock.

Mirrors the calls that mm/util.c, mm/vma.c, mm/mprotect.c and mm/madvise.c make under mmap_lock; the locking is guest
text (images/kernel/mm/mmap.c). Every call is about the address space of the current task.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.mmap import mmap_steps, munmap_steps
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.vma import MmStruct
from kernel_model.sched.requests import Sleeping
from kernel_model.sched.task import Task

MADV_DONTNEED = 4


class MmSyscalls:
    """kcalls behind the system calls of mm; addresses and lengths in bytes, results 0 or -errno."""

    def __init__(self, current: Callable[[], Task]) -> None:
        self._current = current

    def _mm(self) -> MmStruct:
        mm = self._current().mm
        assert mm is not None, "a kernel thread makes no system calls"
        return mm

    @kcall
    def do_mmap(self, file: int, addr: int, length: int, prot: int, flags: int, pgoff: int) -> Sleeping:
        """unsigned long do_mmap(): the address of the new mapping or -errno; anonymous memory only (`file` is NULL)."""
        return (yield from mmap_steps(self._mm(), addr, length, prot, flags, None, pgoff))

    @kcall
    def do_vmi_munmap(self, start: int, length: int) -> Sleeping:
        """int do_vmi_munmap(unsigned long start, size_t len)"""
        return (yield from munmap_steps(self._mm(), start, length))

    @kcall
    def mprotect_range(self, start: int, length: int, prot: int) -> Sleeping:
        """do_mprotect_pkey() below its lock"""
        return (yield from do_mprotect(self._mm(), start, length, prot))

    @kcall
    def madvise_range(self, start: int, length: int, behavior: int) -> int:
        """madvise_do_behavior(): MADV_DONTNEED drops the pages of private anonymous memory."""
        if behavior != MADV_DONTNEED:
            raise NotModelledError(f"madvise(2): advice {behavior} is not modelled")
        mm, end = self._mm(), start + length
        at = start
        while at < end and (vma := mm.find_vma_intersection(at, end)) is not None:
            low, high = max(at, vma.vm_start), min(end, vma.vm_end)
            mm.zap_page_range(low, high - low)
            at = high
        return 0
