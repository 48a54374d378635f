"""What mmap(), munmap(), mprotect(), madvise(), brk() and mremap() do once they hold their lock.

Mirrors the calls that mm/util.c, mm/vma.c, mm/mprotect.c, mm/madvise.c, mm/mmap.c and mm/mremap.c make under mmap_lock;
the locking is guest text (images/kernel/mm). Every call is about the address space of the current task.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from kernel_model.fs.files import OpenFiles
from kernel_model.kcall import kcall
from kernel_model.mm.brk import brk_steps
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.madvise import madvise_behavior_valid, madvise_do_behavior, madvise_vma_behavior
from kernel_model.mm.mincore import do_mincore
from kernel_model.mm.mmap import clear_ptes, mmap_steps, remove_vmas, vms_gather_munmap_vmas
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.mremap import check_mremap_params, mremap_steps
from kernel_model.mm.populate import mm_populate
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.sched.requests import Sleeping
from kernel_model.sched.task import Task

_ENODEV = 19


class MmSyscalls:
    """kcalls behind the system calls of mm; addresses and lengths in bytes, results 0 or -errno."""

    def __init__(self, current: Callable[[], Task], faults: FaultHandler, files: OpenFiles) -> None:
        self._current = current
        self._faults = faults
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
        return gathered if isinstance(gathered, int) else self._list(mm, gathered)

    def _list(self, mm: MmStruct, gathered: list[VmArea]) -> int:
        """A number that guest text knows the list by until remove_vmas(); 0 for an empty one."""
        if not gathered:
            return 0
        number = next(self._numbers)
        self._gathered[number] = mm, gathered
        return number

    @kcall
    def vms_clear_ptes(self, vms: int) -> Sleeping:
        """void vms_clear_ptes(long vms): unmaps and frees their pages."""
        mm, gathered = self._gathered[vms]
        yield from clear_ptes(mm, gathered)

    @kcall
    def remove_vmas(self, vms: int) -> Sleeping:
        """remove_vma() of each: closes and frees them."""
        mm, gathered = self._gathered.pop(vms)
        yield from remove_vmas(mm, gathered)

    @kcall
    def mprotect_range(self, start: int, length: int, prot: int) -> Sleeping:
        """do_mprotect_pkey() below its lock"""
        return (yield from do_mprotect(self._mm(), start, length, prot))

    # -- madvise() ---------------------------------------------------------------------------------------------------

    @kcall
    def madvise_behavior_valid(self, behavior: int) -> bool:
        """bool madvise_behavior_valid(int behavior)"""
        return madvise_behavior_valid(behavior)

    @kcall
    def madvise_do_behavior(self, start: int, end: int, behavior: int) -> Sleeping:
        """madvise_do_behavior() of [start, end), page aligned, with mmap_lock held as the advice needs it."""
        return (yield from madvise_do_behavior(self._faults, self._mm(), start, end, behavior))

    @kcall
    def madvise_vma_behavior(self, vma: int, start: int, end: int, behavior: int) -> Sleeping:
        """madvise_vma_behavior() of a part of `vma`, which is locked."""
        return (yield from madvise_vma_behavior(self._mm().by_addr[vma], start, end, behavior))

    @kcall
    def populate_range(self, start: int, length: int) -> Sleeping:
        """__mm_populate() with mmap_lock held for reading."""
        return (yield from mm_populate(self._faults, self._mm(), start, length))

    @kcall
    def do_mincore(self, addr: int, pages: int, vec: int) -> int:
        """long do_mincore(unsigned long addr, unsigned long pages, unsigned char *vec)"""
        mm = self._mm()
        found = do_mincore(mm, addr, pages)
        if isinstance(found, int):
            return found
        where = mm.init_mm.virt_to_phys(vec)
        assert where is not None, "kmalloc() is in the direct map"
        mm.init_mm.memory.write(where, found)
        return len(found)

    # -- brk() and mremap() ------------------------------------------------------------------------------------------

    @kcall
    def brk_vms(self, brk: int) -> Sleeping:
        """SYSCALL brk below its lock: moves mm->brk where that can be; the number of the list of VMAs that were cut
        off, 0 where there are none."""
        mm = self._mm()
        return self._list(mm, (yield from brk_steps(mm, brk)))

    @kcall
    def check_mremap_params(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
        """int check_mremap_params(): lengths are page aligned."""
        return check_mremap_params(self._mm(), addr, old_len, new_len, flags, new_addr)

    @kcall
    def mremap_range(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> Sleeping:
        """do_mremap() below its lock, but for shrinking in place: an address or -errno."""
        return (yield from mremap_steps(self._mm(), addr, old_len, new_len, flags, new_addr))
