"""What a process wants done with each signal, and what waits for it.

Mirrors struct sighand_struct, k_sigaction, sigpending and signal_struct (include/linux/sched/signal.h) and the sets of
include/linux/signal.h. They are not in guest memory: nothing there reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel_model.mm.signals import SigInfo

NSIG, SIGRTMIN = 64, 32
SIG_DFL, SIG_IGN = 0, 1
SIGKILL, SIGCONT, SIGSTOP = 9, 18, 19
SA_NOCLDWAIT, SA_RESETHAND = 0x2, 0x80000000


def bit(sig: int) -> int:
    """sigmask(): the signal's bit in a sigset_t."""
    return 1 << (sig - 1)


def _mask(*signals: int) -> int:
    return sum(bit(sig) for sig in signals)


SIG_KERNEL_ONLY = _mask(SIGKILL, SIGSTOP)
SIG_KERNEL_STOP = _mask(SIGSTOP, 20, 21, 22)  # SIGTSTP SIGTTIN SIGTTOU
SIG_KERNEL_COREDUMP = _mask(3, 4, 5, 6, 8, 11, 7, 31, 24, 25)  # QUIT ILL TRAP ABRT FPE SEGV BUS SYS XCPU XFSZ
SIG_KERNEL_IGNORE = _mask(SIGCONT, 17, 28, 23)  # SIGCHLD SIGWINCH SIGURG
SYNCHRONOUS = _mask(11, 7, 4, 5, 8, 31)  # SEGV BUS ILL TRAP FPE SYS


@dataclass(frozen=True, slots=True)
class SigAction:
    """struct sigaction. Addresses are the program's."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


@dataclass(slots=True)
class SigHand:
    """struct sighand_struct: shared by the threads of a process, and by whoever was cloned with CLONE_SIGHAND."""

    actions: dict[int, SigAction] = field(default_factory=dict)

    def __getitem__(self, sig: int) -> SigAction:
        return self.actions.get(sig, SigAction())

    def __setitem__(self, sig: int, action: SigAction) -> None:
        self.actions[sig] = action

    def ignores(self, sig: int) -> bool:
        """sig_handler_ignored()"""
        handler = self[sig].handler
        return handler == SIG_IGN or handler == SIG_DFL and bool(bit(sig) & SIG_KERNEL_IGNORE)

    def fatal(self, sig: int) -> bool:
        """sig_fatal()"""
        return self[sig].handler == SIG_DFL and not bit(sig) & (SIG_KERNEL_IGNORE | SIG_KERNEL_STOP)


@dataclass(slots=True)
class SigPending:
    """struct sigpending: signals that wait, oldest first; SIGKILL is not among them (task_struct.sigkill_pending)."""

    queue: list[SigInfo] = field(default_factory=list)

    @property
    def signal(self) -> int:
        """The set of those that wait."""
        found = 0
        for info in self.queue:
            found |= bit(info.signo)
        return found

    def add(self, info: SigInfo) -> bool:
        """legacy_queue(): of other than real-time signals one is enough. False where one waits already."""
        if info.signo < SIGRTMIN and self.signal & bit(info.signo):
            return False
        self.queue.append(info)
        return True

    def flush(self, mask: int) -> None:
        """flush_sigqueue_mask()"""
        self.queue = [info for info in self.queue if not bit(info.signo) & mask]

    def synchronous(self, blocked: int) -> SigInfo | None:
        """dequeue_synchronous_signal(): the oldest that the task caused itself."""
        for info in self.queue:
            if info.code > 0 and bit(info.signo) & SYNCHRONOUS & ~blocked:
                self.queue.remove(info)
                return info
        return None

    def next(self, blocked: int) -> SigInfo | None:
        """__dequeue_signal(): the lowest number, those of a kind in the order in which they came."""
        ready = [info for info in self.queue if not bit(info.signo) & blocked]
        mask = SYNCHRONOUS if any(bit(info.signo) & SYNCHRONOUS for info in ready) else -1
        found = min((info for info in ready if bit(info.signo) & mask), key=lambda info: info.signo, default=None)
        if found is not None:
            self.queue.remove(found)
        return found


@dataclass(slots=True)
class SignalStruct:
    """struct signal_struct: what waits for a process as a whole, and the thread that was last given such a signal."""

    shared_pending: SigPending = field(default_factory=SigPending)
    curr_target: int = 0  # pid
