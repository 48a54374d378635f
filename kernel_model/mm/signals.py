"""Signals that memory faults raise, and the log line that goes with them.

Mirrors force_sig_fault() (kernel/signal.c), show_signal_msg() (arch/x86/mm/fault.c) and print_vma_addr() (mm/memory.c).
Leaves out: handlers, masks and queues; a forced fault signal of a process without a handler ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from arch.interface import PAGE_SHIFT
from kernel_model.mm.vma import MmStruct

SIGKILL, SIGBUS, SIGSEGV = 9, 7, 11
SEGV_MAPERR, SEGV_ACCERR = 1, 2
BUS_ADRERR = 2

_NAMES = {SIGKILL: "SIGKILL", SIGBUS: "SIGBUS", SIGSEGV: "SIGSEGV"}
_CODES = {
    (SIGSEGV, SEGV_MAPERR): "SEGV_MAPERR",
    (SIGSEGV, SEGV_ACCERR): "SEGV_ACCERR",
    (SIGBUS, BUS_ADRERR): "BUS_ADRERR",
}


@dataclass(frozen=True, slots=True)
class SigInfo:
    """siginfo of a fault: signal number, si_code and the address as the program used it."""

    signo: int
    code: int
    addr: int

    def __str__(self) -> str:
        name = _NAMES.get(self.signo, f"signal {self.signo}")
        code = _CODES.get((self.signo, self.code), f"code {self.code}")
        return f"{name} ({code}) at {self.addr:#x}"


def vma_location(mm: MmStruct, ip: int) -> str:
    """print_vma_addr(" in "): ` in name[file offset,start+size]`, empty where no named file is mapped at `ip`."""
    vma = mm.vma_lookup(ip)
    if vma is None or not vma.name or vma.name.startswith("["):
        return ""
    offset = ip - vma.vm_start + (vma.vm_pgoff << PAGE_SHIFT)
    return f" in {vma.name}[{offset:x},{vma.vm_start:x}+{vma.vm_end - vma.vm_start:x}]"


def segfault_line(
    mm: MmStruct, comm: str, pid: int, addr: int, ip: int, sp: int, error: int, cpu: int, core: int = 0, socket: int = 0
) -> str:
    """The x86 log line of an unhandled SIGSEGV. arm64 prints none by default (show_unhandled_signals is 0)."""
    where = vma_location(mm, ip)
    return (
        f"{comm}[{pid}]: segfault at {addr:x} ip {ip:016x} sp {sp:016x} error {error:x}{where}"
        f" likely on CPU {cpu} (core {core}, socket {socket})"
    )
