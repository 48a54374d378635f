"""User memory as Python code of the kernel reaches it: through the process's page tables, with faults.

Mirrors what copy_from_user() and access_remote_vm() guarantee: every page is looked up, faulted in where the VMA
allows it, and -EFAULT where not. Guest text has its own copy routines with exception tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from arch.interface import PAGE_SIZE, Prot
from kernel_model.errors import KernelErrno
from kernel_model.mm.fault import FaultHandler, access_error, find_vma_or_expand
from kernel_model.mm.mm_types import FAULT_FLAG_DEFAULT, VM_FAULT_ERROR, FaultFlag, VmFault
from kernel_model.mm.signals import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SIGBUS, SIGKILL, SIGSEGV, SigInfo
from kernel_model.mm.vma import MmStruct

_EFAULT = 14
_MAX_TRIES = 16


class UserAccessError(KernelErrno):
    """-EFAULT: user memory that cannot be reached. `signal` is what a user-mode access there would have raised."""

    def __init__(self, address: int, write: bool, signal: SigInfo) -> None:
        super().__init__(_EFAULT, f"user {'write' if write else 'read'} at {address:#x}: {signal}")
        self.address = address
        self.signal = signal


@dataclass(slots=True)
class UserSpace:
    """Accesses to the memory of one mm."""

    mm: MmStruct
    faults: FaultHandler

    def fault_in(self, addr: int, *, write: bool, user: bool = False) -> int:
        """Physical address behind user address `addr`, faulted in if need be.

        `user`: as an access of user-mode code would (FAULT_FLAG_USER). Raises UserAccessError.
        """
        needed = Prot.USER | (Prot.WRITE if write else Prot.READ)
        for attempt in range(_MAX_TRIES):
            if not 0 <= addr < self.mm.task_size:
                break
            walk = self.mm.tree.walk(addr)
            if walk.pa is not None and walk.prot & needed == needed:
                return walk.pa
            self._fault(addr, write=write, user=user, present=walk.pa is not None, tried=attempt > 0)
        raise UserAccessError(addr, write, SigInfo(SIGSEGV, SEGV_MAPERR, addr))

    def _fault(self, addr: int, *, write: bool, user: bool, present: bool, tried: bool) -> None:
        vma = find_vma_or_expand(self.mm, addr)
        if vma is None:
            raise UserAccessError(addr, write, SigInfo(SIGSEGV, SEGV_MAPERR, addr))
        if access_error(vma, write=write, present=present):
            raise UserAccessError(addr, write, SigInfo(SIGSEGV, SEGV_ACCERR, addr))
        flags = FAULT_FLAG_DEFAULT
        flags |= FaultFlag.WRITE if write else FaultFlag.NONE
        flags |= FaultFlag.USER if user else FaultFlag.NONE
        flags |= FaultFlag.TRIED if tried else FaultFlag.NONE
        ret = self.faults.handle_mm_fault(vma, addr, flags)
        if ret & VM_FAULT_ERROR:
            raise UserAccessError(addr, write, fault_signal(ret, addr))

    def read(self, addr: int, length: int) -> bytes:
        """`length` bytes of user memory."""
        out = bytearray()
        while len(out) < length:
            at = addr + len(out)
            n = min(length - len(out), PAGE_SIZE - at % PAGE_SIZE)
            out += self.mm.init_mm.memory.read(self.fault_in(at, write=False), n)
        return bytes(out)

    def write(self, addr: int, data: bytes) -> None:
        """Store `data` in user memory; pages before one that cannot be written keep what was stored."""
        done = 0
        while done < len(data):
            at = addr + done
            n = min(len(data) - done, PAGE_SIZE - at % PAGE_SIZE)
            self.mm.init_mm.memory.write(self.fault_in(at, write=True), data[done : done + n])
            done += n

    def poke(self, addr: int, data: bytes) -> None:
        """access_remote_vm() with FOLL_FORCE on fresh private memory: store even where the VMA is read-only.

        For filling a new program's text; the pages are private to this mm.
        """
        done = 0
        while done < len(data):
            at = addr + done
            n = min(len(data) - done, PAGE_SIZE - at % PAGE_SIZE)
            self.mm.init_mm.memory.write(self._forced(at), data[done : done + n])
            done += n

    def _forced(self, at: int) -> int:
        vma = self.mm.vma_lookup(at)
        if vma is None or vma.vm_ops is not None:
            raise UserAccessError(at, True, SigInfo(SIGSEGV, SEGV_MAPERR, at))
        pgtable = self.mm.init_mm.pgtable
        entry = self.mm.tree.pte(at)
        if not entry or pgtable.special(entry):
            self.faults.populate_private(vma, at & -PAGE_SIZE)
        walk = self.mm.tree.walk(at)
        assert walk.pa is not None
        return walk.pa


def fault_signal(ret: VmFault, addr: int) -> SigInfo:
    """The signal that user mode gets for an error of handle_mm_fault() (arch/x86/mm/fault.c: do_user_addr_fault()).

    VM_FAULT_OOM leads to the OOM killer; a lone process is its victim.
    """
    if ret & VmFault.OOM:
        return SigInfo(SIGKILL, 0, addr)
    if ret & (VmFault.SIGBUS | VmFault.HWPOISON | VmFault.HWPOISON_LARGE):
        return SigInfo(SIGBUS, BUS_ADRERR, addr)
    return SigInfo(SIGSEGV, SEGV_MAPERR, addr)
