"""What mmap(), munmap(), mprotect() and madvise() do once they hold their lock.

Mirrors the calls that mm/util.c, mm/vma.c, mm/mprotect.c and mm/madvise.c make under mmap_lock; the locking is guest
text (images/kernel/mm/mmap.c). Every call is about the address space of the current task.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from kernel_model.errors import NotModelledError
from kernel_model.fs.files import OpenFiles
from kernel_model.kcall import kcall
from kernel_model.mm.mmap import clear_ptes, mmap_steps, remove_vmas, vms_gather_munmap_vmas
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.sched.requests import Sleeping
from kernel_model.sched.task import Task

MADV_DONTNEED = 4
_ENODEV = 19


class MmSyscalls:
    """kcalls behind the system calls of mm; addresses and lengths in bytes, results 0 or -errno."""

    def __init__(self, current: Callable[[], Task], files: OpenFiles) -> None:
        self._current = current
        self._files = files
        self._numbers = count(1)
        self._gathered: dict[int, tuple[MmStruct, list[VmArea]]] = {}  # between the two halves of munmap()

    def _mm(self) -> MmStruct:
        mm = self._current().mm
        assert mm is not None, "a kernel thread makes no system calls"
        return mm

    @kcall
    def do_mmap(self, file: int, addr: int, length: int, prot: int, flags: int, pgoff: int) -> Sleeping:
        """unsigned long do_mmap(): the address of the new mapping or -errno; -ENODEV for a file that has no pages."""
        mapped = self._files.by_addr.get(file)
        if file and mapped is None:
            return -_ENODEV
        return (yield from mmap_steps(self._mm(), addr, length, prot, flags, mapped, pgoff))

    @kcall
    def vms_gather_munmap_vmas(self, start: int, end: int) -> Sleeping:
        """long vms_gather_munmap_vmas(unsigned long start, unsigned long end): takes the VMAs out of the tree; the
        number of the list of them, 0 where nothing is mapped, or -errno."""
        mm = self._mm()
        gathered = yield from vms_gather_munmap_vmas(mm, start, end)
        if isinstance(gathered, int):
            return gathered
        if not gathered:
            return 0
        number = next(self._numbers)
        self._gathered[number] = mm, gathered
        return number

    @kcall
    def vms_clear_ptes(self, vms: int) -> None:
        """void vms_clear_ptes(long vms): unmaps and frees their pages."""
        mm, gathered = self._gathered[vms]
        clear_ptes(mm, gathered)

    @kcall
    def remove_vmas(self, vms: int) -> Sleeping:
        """remove_vma() of each: closes and frees them."""
        mm, gathered = self._gathered.pop(vms)
        yield from remove_vmas(mm, gathered)

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
