"""VMAs and the tree that orders them; mm_struct.

Mirrors mm/mmap.c (find_vma and kin), kernel/fork.c (mm_init, mmput) and what mm/vma.c does to a single VMA. Leaves
out: reverse maps. The locks are guest text; here they only get their first state, and `start_write` and `detach` say
when a VMA is locked. Where nobody else can run yet they do nothing: see run(). A VMA in the tree holds its file and is
known to the file's address_space until its struct goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from arch.interface import PAGE_SHIFT, Prot
from kernel_model.fs.file import File
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import VM_GROWSDOWN, VM_SHARED, VM_WRITE, VmOperations, vm_get_page_prot
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.pgtable import PageTableTree
from kernel_model.mm.tlb import AT_ONCE, MmuGather, TlbFlusher
from kernel_model.mm.vma_tree import VmaTree
from kernel_model.sched.requests import Sleeping

DEFAULT_MAX_MAP_COUNT = 65530  # sysctl_max_map_count
FlushUser = Callable[[int, int], None]


@dataclass(slots=True, eq=False)
class AnonVma:
    """struct anon_vma: VMAs that share one may be merged, for a page of theirs is found through either.

    `forked`: a VMA has another one of a parent or child in its chain (anon_vma_chain is not singular), so that it may
    be neither shared with a neighbour nor given to one.
    """

    forked: bool = False


@dataclass(slots=True, eq=False)
class VmArea:
    """struct vm_area_struct: [vm_start, vm_end) of one mm. `addr` is the guest's copy of it."""

    vm_mm: MmStruct
    vm_start: int
    vm_end: int
    vm_flags: int
    vm_pgoff: int = 0
    vm_ops: VmOperations | None = None
    vm_private_data: object | None = None
    name: str = ""  # base name of the file, or [stack], [heap]
    addr: int = 0
    anon_vma: AnonVma | None = None
    vm_file: object | None = None  # a File, or what stands for one; compared by identity

    def usable_below(self, guard: int) -> int:
        """vm_start_gap(): where a hole below this VMA ends; a stack keeps `guard` bytes clear."""
        return max(self.vm_start - guard, 0) if self.vm_flags & VM_GROWSDOWN else self.vm_start


def vma_wants_writenotify(vma: VmArea) -> bool:
    """vma_wants_writenotify(): the file must know of the first write to each of its pages."""
    shared = vma.vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED
    return shared and isinstance(vma.vm_file, File) and vma.vm_file.f_mapping.can_writeback


def vm_page_prot(vma: VmArea) -> Prot:
    """vma->vm_page_prot: permissions of a fresh entry (vma_set_page_prot())."""
    prot = vm_get_page_prot(vma.vm_flags)
    return prot & ~Prot.WRITE if vma_wants_writenotify(vma) else prot


@dataclass(slots=True)
class FaultCounters:
    """Page faults that handle_mm_fault() accounted (mm_account_fault())."""

    major: int = 0
    minor: int = 0


VmaHook = Callable[[VmArea], Sleeping]


def unlocked(vma: VmArea) -> Sleeping:
    """Locks no VMA: nobody else can be there."""
    return
    yield


class MmStruct:
    """struct mm_struct: one user address space with its own root table.

    Where the root is shared with the kernel (x86-64) its upper half is a copy of swapper_pg_dir's. `flush(start, end)`
    makes every CPU forget at once; `tlb` is who flushes after user entries were cleared or made stricter. `addr` is the
    guest's copy.
    """

    def __init__(self, init_mm: InitMm, objects: GuestObjects, name: str = "user") -> None:
        self.init_mm = init_mm
        self.pages = init_mm.pages
        self.objects = objects
        self.name = name
        self.tree = PageTableTree(
            init_mm.memory, init_mm.pgtable, init_mm.pages, owner=f"page tables of {name}", user=True
        )
        if init_mm.pgtable.SHARED_ROOT:  # pgd_ctor() (arch/x86/mm/pgtable.c): clone the kernel's half
            init_mm.memory.write(self.tree.root + 2048, init_mm.memory.read(init_mm.pgd + 2048, 2048))
        self.task_size = init_mm.layout.task_size
        self.mmap_base = (self.task_size - (128 << 20)) & -4096  # mmap_base() without randomisation, MIN_GAP 128 MiB
        self.start_brk = self.brk = 0
        self.max_map_count = DEFAULT_MAX_MAP_COUNT
        self.counters = FaultCounters()
        self.flush: FlushUser = lambda start, end: None
        self.tlb: TlbFlusher = AT_ONCE
        self.tlb_gen = 1  # context.tlb_gen: counts flushes
        self._vmas = VmaTree()
        self.start_write: VmaHook = unlocked  # vma_start_write()
        self.detach: VmaHook = unlocked  # vma_mark_detached()
        self.free_vma: Callable[[int], Sleeping] = self._free_at_once  # vm_area_free() of a guest address
        self.by_addr: dict[int, VmArea] = {}
        self.addr = objects.new(
            "mm_struct", pgd=init_mm.phys_to_virt(self.tree.root), task_size=self.task_size, mmap_base=self.mmap_base
        )
        objects.init_mmap_lock(self.addr)
        self.vdso_sigtramp = 0

    def set_sigtramp(self, address: int) -> None:
        """context.vdso: where handlers return to that bring no way back of their own."""
        self.vdso_sigtramp = address
        self.objects.set("mm_struct", self.addr, vdso_sigtramp=address)

    @property
    def pgd(self) -> int:
        """Physical address of the root (CR3 / TTBR0_EL1)."""
        return self.tree.root

    def set_brk(self, brk: int) -> None:
        """Where the heap ends."""
        self.brk = brk
        self.objects.set("mm_struct", self.addr, brk=brk)

    def start_heap(self, start: int) -> None:
        """A program that was just loaded: its heap begins at `start` and is empty."""
        self.start_brk = start
        self.objects.set("mm_struct", self.addr, start_brk=start)
        self.set_brk(start)

    # -- VMAs --------------------------------------------------------------------------------------------------------

    def find_vma(self, addr: int) -> VmArea | None:
        """The first VMA that ends above `addr`; it may begin above it too."""
        return self._vmas.find(addr)

    def vma_before(self, addr: int) -> VmArea | None:
        """The last VMA that begins below `addr` (vma_prev() of the iterator at `addr`)."""
        return self._vmas.before(addr)

    @property
    def map_count(self) -> int:
        """Number of VMAs."""
        return self._vmas.size

    @property
    def holes(self) -> VmaTree:
        """Where to look for unmapped areas."""
        return self._vmas

    def vma_lookup(self, addr: int) -> VmArea | None:
        """The VMA that holds `addr`."""
        vma = self.find_vma(addr)
        return vma if vma is not None and vma.vm_start <= addr else None

    def find_vma_intersection(self, start: int, end: int) -> VmArea | None:
        """The lowest VMA that overlaps [start, end)."""
        vma = self.find_vma(start)
        return vma if vma is not None and vma.vm_start < end else None

    def vmas(self) -> Iterator[VmArea]:
        """All VMAs, ascending."""
        return iter(list(self._vmas))

    def alloc_vma(self, vma: VmArea) -> VmArea:
        """vm_area_alloc(), vm_area_dup(): give a new VMA its guest struct; detached, and in no tree yet."""
        vma.addr = self.objects.new(
            "vm_area_struct", vm_start=vma.vm_start, vm_end=vma.vm_end, vm_flags=vma.vm_flags, vm_mm=self.addr,
            vm_pgoff=vma.vm_pgoff,
        )
        if isinstance(vma.vm_file, File):
            self.objects.set("vm_area_struct", vma.addr, vm_file=vma.vm_file.addr)
        self.objects.init_vma_lock(vma.addr)
        return vma

    def link_vma(self, vma: VmArea) -> None:
        """vma_iter_store_new(), vma_mark_attached(), vma_link_file(): it can be found from now on, and has its file."""
        if vma.vm_start >= vma.vm_end or self.find_vma_intersection(vma.vm_start, vma.vm_end) is not None:
            raise ValueError(f"VMA [{vma.vm_start:#x}, {vma.vm_end:#x}) is empty or overlaps another")
        self.objects.attach_vma(vma.addr)
        self._vmas.insert(vma)
        self.by_addr[vma.addr] = vma
        if isinstance(vma.vm_file, File):
            vma.vm_file.get_file().f_mapping.i_mmap[vma] = None
        self.objects.set("mm_struct", self.addr, map_count=self.map_count)

    def unlink_vma(self, vma: VmArea) -> None:
        """vma_iter_clear(): it can no longer be found; the object stays."""
        self._vmas.remove(vma)
        self.objects.set("mm_struct", self.addr, map_count=self.map_count)

    def insert_vma(self, vma: VmArea) -> None:
        """vm_area_alloc() and vma_link() where nobody else runs: add a VMA that overlaps none."""
        self.link_vma(self.alloc_vma(vma))

    def set_range(self, vma: VmArea, start: int, end: int, pgoff: int) -> None:
        """vma_set_range() of a VMA in the tree; the caller holds its lock for writing."""
        if vma.vm_start == start:
            vma.vm_end = end
            self._vmas.end_changed(vma)
        else:
            self._vmas.remove(vma)
            vma.vm_start, vma.vm_end = start, end
            self._vmas.insert(vma)
        vma.vm_pgoff = pgoff
        self.objects.set("vm_area_struct", vma.addr, vm_start=start, vm_end=end, vm_pgoff=pgoff)

    def set_flags(self, vma: VmArea, vm_flags: int) -> None:
        """vm_flags_reset()."""
        vma.vm_flags = vm_flags
        self.objects.set("vm_area_struct", vma.addr, vm_flags=vm_flags)

    def resize_vma(self, vma: VmArea, start: int, end: int) -> None:
        """set_range() that keeps file offsets."""
        self.set_range(vma, start, end, vma.vm_pgoff + ((start - vma.vm_start) >> PAGE_SHIFT))

    def close_vma(self, vma: VmArea) -> Sleeping:
        """remove_vma(): close and free a VMA that is out of the tree."""
        self.forget_vma(vma, closed=True)
        yield from self.free_vma(vma.addr)

    def forget_vma(self, vma: VmArea, *, closed: bool) -> None:
        """The end of every VMA that was linked, but for its struct: unlink_file_vma() and fput(), and vm_ops->close()
        where no other VMA has taken over what it mapped."""
        del self.by_addr[vma.addr]
        if closed and vma.vm_ops is not None:
            vma.vm_ops.close(vma)
        if isinstance(vma.vm_file, File):
            del vma.vm_file.f_mapping.i_mmap[vma]
            vma.vm_file.fput()

    def _free_at_once(self, addr: int) -> Sleeping:
        self.objects.free(addr)
        return
        yield

    def run(self, steps: Sleeping) -> Any:
        """The result of an operation on an address space that no task runs in: no locks, and it may not sleep."""
        hooks = self.start_write, self.detach, self.free_vma, self.tlb
        self.start_write, self.detach, self.free_vma, self.tlb = unlocked, unlocked, self._free_at_once, AT_ONCE
        try:
            request = next(steps)
        except StopIteration as stop:
            return stop.value
        finally:
            self.start_write, self.detach, self.free_vma, self.tlb = hooks
        raise RuntimeError(f"{self.name}: {request!r} where nothing can sleep")

    # -- pages -------------------------------------------------------------------------------------------------------

    def frame(self, entry: int) -> int | None:
        """vm_normal_page(): pfn of the counted page that a user entry maps or keeps (PROT_NONE)."""
        pgtable = self.init_mm.pgtable
        if pgtable.special(entry) or not (pgtable.present(entry) or pgtable.protnone(entry)):
            return None
        return pgtable.pa(entry) >> PAGE_SHIFT

    def exclusive(self, vma: VmArea, pfn: int) -> bool:
        """PageAnonExclusive(): no other process, and no file, has this page of a private mapping."""
        return not vma.vm_flags & VM_SHARED and self.pages.page_count(pfn) == 1

    def zap_steps(self, start: int, size: int) -> Sleeping:
        """zap_page_range_single(): unmap the user pages of the range, drop their references; how many there were."""
        gather = MmuGather(self)
        count = gather.unmap(start, size)
        yield from gather.finish(self.tlb)
        return count

    def zap_page_range(self, start: int, size: int) -> int:
        """zap_steps() at once: no CPU is waited for."""
        count: int = self.run(self.zap_steps(start, size))
        return count

    def exit_mmap(self) -> None:
        """exit_mmap() and __mmdrop(): unmap everything, free all tables and the struct. The mm is dead afterwards."""
        for vma in self.vmas():
            self.zap_page_range(vma.vm_start, vma.vm_end - vma.vm_start)
            self._vmas.remove(vma)
            self.run(self.close_vma(vma))
        self.tree.free_tables()
        self.objects.free(self.addr)


@dataclass(slots=True)
class MmRegistry:
    """Finds an mm or a VMA by the address that guest text knows it by."""

    mms: dict[int, MmStruct] = field(default_factory=dict)

    def add(self, mm: MmStruct) -> None:
        """Make `mm` known."""
        self.mms[mm.addr] = mm

    def remove(self, mm: MmStruct) -> None:
        """Forget `mm`."""
        del self.mms[mm.addr]

    def vma(self, addr: int) -> VmArea:
        """The VMA at guest address `addr`. KeyError if there is none."""
        for mm in self.mms.values():
            if addr in mm.by_addr:
                return mm.by_addr[addr]
        raise KeyError(f"no vm_area_struct at {addr:#x}")
