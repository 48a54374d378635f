"""handle_mm_fault(): provide the page that a user address needs.

Mirrors mm/memory.c (Linux 6.18): handle_mm_fault, __handle_mm_fault, do_anonymous_page, do_fault, do_wp_page, and
lock_mm_and_find_vma and expand_stack of mm/mmap.c without their locks. Leaves out: swap, huge pages, NUMA balancing,
page_mkwrite, memory cgroups, userfaultfd.
"""

from __future__ import annotations

from arch.interface import PAGE_SHIFT, PAGE_SIZE, Prot
from kernel_model.fs.file import File
from kernel_model.mm.filemap import filemap_map_pages
from kernel_model.mm.mm_types import (
    VM_ACCESS_FLAGS,
    VM_EXEC,
    VM_FAULT_ERROR,
    VM_GROWSDOWN,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    FaultFlag,
    VmFault,
    VmFaultInfo,
    vm_get_page_prot,
)
from kernel_model.mm.mmap import STACK_GUARD_GAP
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.vma import AnonVma, MmStruct, VmArea, vm_page_prot
from kernel_model.mm.vma_change import reusable_anon_vma
from kernel_model.sched.requests import GuestCall, Sleeping

_STACK_LIMIT = 8 << 20  # RLIMIT_STACK
_FAULT_AROUND_PAGES, _PTRS_PER_PTE = 16, 512  # fault_around_bytes is 64 KiB
_MAPPING_FLAGS = VmFault.NOPAGE | VmFault.RETRY | VmFault.DONE_COW


class FaultHandler:
    """The fault path of every mm. `zero_pfn` is the page that anonymous reads map (empty_zero_page)."""

    def __init__(self, zero_pfn: int) -> None:
        self.zero_pfn = zero_pfn

    def handle_mm_fault(self, vma: VmArea, address: int, flags: FaultFlag) -> VmFault:
        """fault_steps() where nobody else runs."""
        ret: VmFault = vma.vm_mm.run(self.fault_steps(vma, address, flags))
        return ret

    def fault_steps(self, vma: VmArea, address: int, flags: FaultFlag) -> Sleeping:
        """Resolve a fault at `address` inside `vma`: VmFault, whose error bits say which signal follows."""
        ret = self._sanitize(vma, flags) or self._check_access(vma, flags)
        if not ret:
            ret = yield from self._handle_pte_fault(vma, address, flags)
        self._account(vma.vm_mm, flags, ret)
        return ret

    @staticmethod
    def _sanitize(vma: VmArea, flags: FaultFlag) -> VmFault:
        """sanitize_fault_flags()."""
        if flags & FaultFlag.WRITE and not vma.vm_flags & VM_MAYWRITE:
            return VmFault.SIGSEGV
        if flags & FaultFlag.VMA_LOCK and flags & FaultFlag.RETRY_NOWAIT:
            return VmFault.SIGSEGV
        return VmFault.NONE

    @staticmethod
    def _check_access(vma: VmArea, flags: FaultFlag) -> VmFault:
        """Callers have checked vm_flags (access_error() and its like); the remote ones rely on this."""
        if flags & FaultFlag.WRITE and not vma.vm_flags & VM_WRITE:
            return VmFault.SIGSEGV
        return VmFault.NONE

    @staticmethod
    def _account(mm: MmStruct, flags: FaultFlag, ret: VmFault) -> None:
        """mm_account_fault(): nothing for an incomplete or failed fault; a second try counts as major."""
        if ret & (VmFault.RETRY | VM_FAULT_ERROR):
            return
        if ret & VmFault.MAJOR or flags & FaultFlag.TRIED:
            mm.counters.major += 1
        else:
            mm.counters.minor += 1

    def _handle_pte_fault(self, vma: VmArea, address: int, flags: FaultFlag) -> Sleeping:
        page_address = address & -PAGE_SIZE
        pgoff = vma.vm_pgoff + ((page_address - vma.vm_start) >> PAGE_SHIFT)
        vmf = VmFaultInfo(vma, page_address, address, pgoff, flags)
        mm = vma.vm_mm
        entry = mm.tree.pte(page_address)
        try:
            if not entry:
                steps = self._do_anonymous_page(vmf) if vma.vm_ops is None else self._do_fault(vmf)
                return (yield from steps)
            if flags & FaultFlag.WRITE and not mm.init_mm.pgtable.prot(entry) & Prot.WRITE:
                return (yield from self._do_wp_page(vmf, entry))
        except OutOfMemoryError:
            return VmFault.OOM
        # the entry allows what was asked: another thread was faster, or the fault was spurious. A CPU forgets the
        # translation that it faults on (flush_tlb_fix_spurious_fault() is empty on both architectures).
        return VmFault.NONE

    @staticmethod
    def _anon_prepare(vmf: VmFaultInfo) -> Sleeping:
        """vmf_anon_prepare(): the VMA gets an anon_vma, for which neighbours must hold still: not by the VMA's lock."""
        vma, mm = vmf.vma, vmf.vma.vm_mm
        if vma.anon_vma is not None:
            return VmFault.NONE
        locked = vmf.flags & FaultFlag.VMA_LOCK
        if locked and not (yield GuestCall("mmap_read_trylock", mm.addr)) & 0xFF:
            return VmFault.RETRY
        if vma.anon_vma is None:
            vma.anon_vma = reusable_anon_vma(mm, vma) or AnonVma()
        if locked:
            yield GuestCall("mmap_read_unlock", mm.addr)
        return VmFault.NONE

    # -- anonymous memory --------------------------------------------------------------------------------------------

    def _do_anonymous_page(self, vmf: VmFaultInfo) -> Sleeping:
        vma, mm = vmf.vma, vmf.vma.vm_mm
        if vma.vm_flags & VM_SHARED:
            return VmFault.SIGBUS  # shared memory without vm_ops: do_anonymous_page() says so too
        pgtable = mm.init_mm.pgtable
        if not vmf.flags & FaultFlag.WRITE:
            entry = pgtable.mk_leaf(self.zero_pfn << PAGE_SHIFT, vm_get_page_prot(vma.vm_flags))
            mm.tree.set_pte(vmf.address, pgtable.mk_special(entry))
            return VmFault.NONE
        if ret := (yield from self._anon_prepare(vmf)):
            return ret
        if mm.tree.pte(vmf.address):  # another thread was faster
            return VmFault.NONE
        self._map(vma, vmf.address, mm.pages.alloc_pages(0, f"anonymous memory of {mm.name}", zero=True), write=True)
        return VmFault.NONE

    def populate_private(self, vma: VmArea, address: int) -> None:
        """Map a fresh zeroed page at `address` (page aligned) of a private anonymous VMA, as its flags allow."""
        mm = vma.vm_mm
        mm.zap_page_range(address, PAGE_SIZE)
        vma.anon_vma = vma.anon_vma or reusable_anon_vma(mm, vma) or AnonVma()
        pfn = mm.pages.alloc_pages(0, f"anonymous memory of {mm.name}", zero=True)
        self._map(vma, address, pfn, write=bool(vma.vm_flags & VM_WRITE))

    @staticmethod
    def _map(vma: VmArea, address: int, pfn: int, *, write: bool) -> None:
        """Install `pfn`, whose reference the mapping takes over."""
        mm = vma.vm_mm
        prot = vm_page_prot(vma)
        if write and vma.vm_flags & VM_WRITE:  # maybe_mkwrite()
            prot |= Prot.WRITE
        mm.tree.set_pte(address, mm.init_mm.pgtable.mk_leaf(pfn << PAGE_SHIFT, prot))
        mm.pages.add_mapcount(pfn, 1)

    def _copy_of(self, mm: MmStruct, pfn: int) -> int:
        copy = mm.pages.alloc_pages(0, f"anonymous memory of {mm.name}")
        memory = mm.init_mm.memory
        memory.write(copy << PAGE_SHIFT, memory.read(pfn << PAGE_SHIFT, PAGE_SIZE))
        return copy

    def _do_wp_page(self, vmf: VmFaultInfo, entry: int) -> Sleeping:
        """A write to a read-only entry: copy, or reuse a page that nobody else holds."""
        vma, mm = vmf.vma, vmf.vma.vm_mm
        pgtable = mm.init_mm.pgtable
        old = pgtable.pa(entry) >> PAGE_SHIFT
        special = pgtable.special(entry)
        shared = vma.vm_flags & (VM_SHARED | VM_MAYSHARE)
        if shared or (not special and mm.exclusive(vma, old)):
            prot = vm_get_page_prot(vma.vm_flags) | Prot.WRITE
            mm.tree.set_pte(vmf.address, pgtable.mk_leaf(old << PAGE_SHIFT, prot))
            if shared:
                self._fault_dirty_shared_page(vmf)
            return VmFault.NONE
        if ret := (yield from self._anon_prepare(vmf)):
            return ret
        if mm.tree.pte(vmf.address) != entry:
            return VmFault.NONE
        self._map(vma, vmf.address, self._copy_of(mm, old), write=True)
        yield from mm.tlb.ptep_clear_flush(mm, vmf.address)
        if not special:
            mm.pages.add_mapcount(old, -1)
            mm.pages.put_page(old)
        return VmFault.NONE

    # -- memory that vm_ops provide ----------------------------------------------------------------------------------

    def _do_fault(self, vmf: VmFaultInfo) -> Sleeping:
        """do_read_fault(), do_cow_fault(), do_shared_fault()."""
        vma, mm = vmf.vma, vmf.vma.vm_mm
        assert vma.vm_ops is not None
        write = bool(vmf.flags & FaultFlag.WRITE)
        cow = write and not vma.vm_flags & VM_SHARED
        if not write and vma.vm_ops.has_map_pages and (ret := self._do_fault_around(vmf)):
            return ret
        if vmf.flags & FaultFlag.VMA_LOCK and not vma.vm_ops.has_map_pages:
            return VmFault.RETRY  # vmf_can_call_fault(): ->fault may need mmap_lock
        if cow and (ret := (yield from self._anon_prepare(vmf))):
            return ret
        ret = vma.vm_ops.fault(vmf)
        if ret & (VM_FAULT_ERROR | _MAPPING_FLAGS):
            return ret
        if vmf.page is None:
            raise ValueError(f"vm_ops->fault of {vma.name or 'a VMA'} answered {ret!r} without a page")
        pfn = vmf.page
        try:
            if cow:
                pfn = self._copy_of(mm, vmf.page)
                mm.pages.put_page(vmf.page)
            ret |= self._finish_fault(vmf, pfn, write=write)
        except OutOfMemoryError:
            mm.pages.put_page(pfn)
            raise
        if write and not cow and not ret & VmFault.NOPAGE:
            self._fault_dirty_shared_page(vmf)
        return ret

    def _do_fault_around(self, vmf: VmFaultInfo) -> VmFault:
        """do_fault_around(): map what is cached near the address, within its 64 KiB, VMA and page table; NOPAGE where
        that was enough."""
        vma, mm = vmf.vma, vmf.vma.vm_mm
        pte_off = vmf.address >> PAGE_SHIFT & (_PTRS_PER_PTE - 1)
        vma_off = vmf.pgoff - vma.vm_pgoff
        pages = (vma.vm_end - vma.vm_start) >> PAGE_SHIFT
        from_pte = max(pte_off & -_FAULT_AROUND_PAGES, pte_off - min(pte_off, vma_off))
        to_pte = min(from_pte + _FAULT_AROUND_PAGES, _PTRS_PER_PTE, pte_off + pages - vma_off) - 1
        mm.tree.ensure(vmf.address)  # prealloc_pte: all of them are in one table
        ret = VmFault.NONE
        for index, pfn in filemap_map_pages(vmf, vmf.pgoff + from_pte - pte_off, vmf.pgoff + to_pte - pte_off):
            address = vmf.address + ((index - vmf.pgoff) << PAGE_SHIFT)
            if mm.tree.pte(address):
                mm.pages.put_page(pfn)
                continue
            self._map(vma, address, pfn, write=False)
            if address == vmf.address:
                ret = VmFault.NOPAGE
        return ret

    @staticmethod
    def _fault_dirty_shared_page(vmf: VmFaultInfo) -> None:
        """fault_dirty_shared_page()"""
        if isinstance(vmf.vma.vm_file, File):
            vmf.vma.vm_file.f_mapping.mark_dirty(vmf.pgoff)

    def _finish_fault(self, vmf: VmFaultInfo, pfn: int, *, write: bool) -> VmFault:
        mm = vmf.vma.vm_mm
        if mm.tree.pte(vmf.address):
            mm.pages.put_page(pfn)
            return VmFault.NOPAGE
        self._map(vmf.vma, vmf.address, pfn, write=write)
        return VmFault.NONE


def access_error(vma: VmArea, *, write: bool, instruction: bool = False, present: bool = False) -> bool:
    """Whether the VMA forbids the access.

    arch/x86/mm/fault.c: access_error(); `present`: the entry was there, so a read failed on permissions. For
    instruction fetches arm64's rule (VM_EXEC needed) gives the same answer where the hardware enforces NX.
    """
    if write:
        return not vma.vm_flags & VM_WRITE
    if instruction:
        return not vma.vm_flags & VM_EXEC
    return present or not vma.vm_flags & (VM_READ | VM_WRITE | VM_EXEC)


def find_vma_or_expand(mm: MmStruct, addr: int) -> VmArea | None:
    """lock_mm_and_find_vma() without the lock: the VMA at `addr`, a stack below it grown if it may."""
    vma = mm.find_vma(addr)
    if vma is None or vma.vm_start <= addr:
        return vma
    return vma if vma.vm_flags & VM_GROWSDOWN and expand_downwards(mm, vma, addr & -PAGE_SIZE) else None


def expand_downwards(mm: MmStruct, vma: VmArea, start: int) -> bool:
    """expand_steps() where nobody else runs."""
    grown: bool = mm.run(expand_steps(mm, vma, start))
    return grown


def expand_steps(mm: MmStruct, vma: VmArea, start: int) -> Sleeping:
    """Move the start of a stack down to `start` (page aligned); whether that is allowed.

    expand_downwards() and acct_stack_growth(), with mmap_lock held for writing: within RLIMIT_STACK, 1 MiB clear below.
    """
    if vma.vm_end - start > _STACK_LIMIT or (vma.vm_start - start) >> PAGE_SHIFT > vma.vm_pgoff:
        return False
    below = mm.vma_before(vma.vm_start)
    if below is not None and not below.vm_flags & VM_GROWSDOWN and below.vm_flags & VM_ACCESS_FLAGS:
        if start - below.vm_end < STACK_GUARD_GAP:
            return False
    elif below is not None and start < below.vm_end:
        return False
    yield from mm.start_write(vma)
    if start < vma.vm_start:
        mm.resize_vma(vma, start, vma.vm_end)
    return True
