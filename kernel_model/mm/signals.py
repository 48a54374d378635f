"""What is told of a signal: siginfo, and the log lines that go with faults.

Mirrors uapi/asm-generic/siginfo.h, show_signal_msg() (arch/x86/mm/fault.c), show_signal() (arch/x86/kernel/traps.c) and
print_vma_addr() (mm/memory.c). What becomes of a signal is in kernel_model/sched/signal.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from arch.interface import PAGE_SHIFT
from kernel_model.mm.vma import MmStruct

SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGCHLD = 4, 5, 7, 8, 9, 11, 17
SEGV_MAPERR, SEGV_ACCERR = 1, 2
BUS_ADRALN, BUS_ADRERR = 1, 2
SI_USER, SI_KERNEL, SI_TKILL = 0, 0x80, -6
CLD_EXITED, CLD_KILLED = 1, 2

_NAMES = (
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
    "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
    "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
    "SIGSYS",
)  # fmt: skip
_CODES = {
    (SIGSEGV, SEGV_MAPERR): "SEGV_MAPERR", (SIGSEGV, SEGV_ACCERR): "SEGV_ACCERR",
    (SIGBUS, BUS_ADRALN): "BUS_ADRALN", (SIGBUS, BUS_ADRERR): "BUS_ADRERR", (SIGFPE, 1): "FPE_INTDIV",
    (SIGILL, 1): "ILL_ILLOPC", (SIGILL, 2): "ILL_ILLOPN", (SIGTRAP, 1): "TRAP_BRKPT",
}  # fmt: skip
_FAULTS = (SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV)
_HEAD, _KERNEL_SIGINFO = struct.Struct("<iii4x"), 48


@dataclass(frozen=True, slots=True)
class SigInfo:
    """siginfo: signal number and si_code; of a fault the address as the program used it, of a signal that somebody
    sent the sender, of SIGCHLD the child and its status."""

    signo: int
    code: int
    addr: int = 0
    pid: int = 0
    uid: int = 0
    status: int = 0

    def __str__(self) -> str:
        name = _NAMES[self.signo - 1] if 0 < self.signo <= len(_NAMES) else f"signal {self.signo}"
        if self.code == SI_KERNEL:
            return f"{name} (SI_KERNEL)"
        if self.pid:
            return f"{name} from pid {self.pid}"
        code = _CODES.get((self.signo, self.code), f"code {self.code}")
        return f"{name} ({code}) at {self.addr:#x}"

    @property
    def is_fault(self) -> bool:
        """siginfo_layout() is SIL_FAULT."""
        return self.signo in _FAULTS and 0 < self.code < SI_KERNEL

    def pack(self) -> bytes:
        """struct kernel_siginfo."""
        if self.is_fault:
            fields = struct.pack("<Q", self.addr)
        else:
            fields = struct.pack("<iIi", self.pid, self.uid, self.status)
        return (_HEAD.pack(self.signo, 0, self.code) + fields).ljust(_KERNEL_SIGINFO, b"\0")


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


def trap_line(mm: MmStruct, comm: str, pid: int, what: str, ip: int, sp: int, error: int) -> str:
    """show_signal(): the x86 log line of any other signal that a trap raises and nobody handles."""
    return f"traps: {comm}[{pid}] {what} ip:{ip:x} sp:{sp:x} error:{error:x}{vma_location(mm, ip)}"


def bad_frame_line(mm: MmStruct, comm: str, pid: int, frame: int, ip: int, sp: int, orig_ax: int) -> str:
    """signal_fault(): the x86 log line of a frame that rt_sigreturn() cannot take back; `frame` hashed as by %p."""
    where = f"frame:{frame:016x} ip:{ip:x} sp:{sp:x} orax:{orig_ax:x}"
    return f"{comm}[{pid}] bad frame in rt_sigreturn {where}{vma_location(mm, ip)}"
