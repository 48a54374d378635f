"""Constants and records that every part of the user side of mm shares.

Mirrors include/linux/mm_types.h and include/linux/mm.h: vm_flags, vm_fault_t, FAULT_FLAG_*, struct vm_fault,
struct vm_operations_struct. Leaves out: swap, huge pages, userfaultfd, memory policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from typing import TYPE_CHECKING, Protocol

from arch.interface import Prot

if TYPE_CHECKING:
    from kernel_model.mm.vma import VmArea

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_MAYREAD = 0x10
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_MAYSHARE = 0x80
VM_GROWSDOWN = 0x100
VM_PFNMAP = 0x400
VM_IO = 0x4000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_MIXEDMAP = 0x10000000
VM_ACCOUNT = 0x100000
VM_NORESERVE = 0x200000
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000
VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC


class VmFault(IntFlag):
    """vm_fault_t: what a fault handler did."""

    NONE = 0
    OOM = 0x1
    SIGBUS = 0x2
    MAJOR = 0x4
    HWPOISON = 0x10
    HWPOISON_LARGE = 0x20
    SIGSEGV = 0x40
    NOPAGE = 0x100
    LOCKED = 0x200
    RETRY = 0x400
    FALLBACK = 0x800
    DONE_COW = 0x1000
    NEEDDSYNC = 0x2000
    COMPLETED = 0x4000


VM_FAULT_ERROR = (
    VmFault.OOM | VmFault.SIGBUS | VmFault.SIGSEGV | VmFault.HWPOISON | VmFault.HWPOISON_LARGE | VmFault.FALLBACK
)


class FaultFlag(IntFlag):
    """FAULT_FLAG_*: how the faulting access came."""

    NONE = 0
    WRITE = 1 << 0
    MKWRITE = 1 << 1
    ALLOW_RETRY = 1 << 2
    RETRY_NOWAIT = 1 << 3
    KILLABLE = 1 << 4
    TRIED = 1 << 5
    USER = 1 << 6
    REMOTE = 1 << 7
    INSTRUCTION = 1 << 8
    INTERRUPTIBLE = 1 << 9
    UNSHARE = 1 << 10
    ORIG_PTE_VALID = 1 << 11
    VMA_LOCK = 1 << 12


FAULT_FLAG_DEFAULT = FaultFlag.ALLOW_RETRY | FaultFlag.KILLABLE | FaultFlag.INTERRUPTIBLE


@dataclass(slots=True)
class VmFaultInfo:
    """struct vm_fault. `address` is page aligned, `real_address` exact; a handler that answers 0 has set `page` (a
    pfn) and holds one reference to it, which the mapping takes over."""

    vma: VmArea
    address: int
    real_address: int
    pgoff: int
    flags: FaultFlag
    page: int | None = None


class VmOperations(Protocol):
    """struct vm_operations_struct, the members that are modelled. Errors are -errno."""

    @property
    def has_map_pages(self) -> bool:
        """vm_ops->map_pages is set: faults may be handled under the per-VMA lock."""
        ...

    @property
    def has_close(self) -> bool:
        """vm_ops->close is set: the VMA must not vanish in a merge."""
        ...

    def open(self, vma: VmArea) -> None:
        """A VMA was duplicated (split, fork)."""
        ...

    def close(self, vma: VmArea) -> None:
        """A VMA goes away."""
        ...

    def may_split(self, vma: VmArea, addr: int) -> int:
        """0 where the VMA may be cut at `addr`."""
        ...

    def fault(self, vmf: VmFaultInfo) -> VmFault:
        """Provide the page behind `vmf.pgoff`."""
        ...


def vm_get_page_prot(vm_flags: int) -> Prot:
    """Permissions of a fresh entry (mm/mmap.c protection_map): private writable mappings begin read-only, for COW."""
    return _protection_map(vm_flags & (VM_ACCESS_FLAGS | VM_SHARED))


@cache
def _protection_map(vm_flags: int) -> Prot:
    prot = Prot.USER
    if vm_flags & VM_ACCESS_FLAGS:
        prot |= Prot.READ
    if vm_flags & VM_WRITE and vm_flags & VM_SHARED:
        prot |= Prot.WRITE
    if vm_flags & VM_EXEC:
        prot |= Prot.EXEC
    return prot
