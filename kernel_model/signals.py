"""Signals that end a process.

Mirrors kernel/signal.c (force_sig_fault) and mm/oom_kill.c's last resort. Leaves out handlers and queues: a forced
signal of a task without a handler ends it.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.kcall import kcall
from kernel_model.mm.signals import SIGKILL, SigInfo
from kernel_model.sched.task import TaskExit


class Signals:
    """kcalls that end the current task's process."""

    def __init__(self, ktime: Callable[[], int]) -> None:
        self._ktime = ktime

    @kcall
    def force_sig_fault(self, sig: int, code: int, addr: int) -> None:
        """int force_sig_fault(int sig, int code, void __user *addr): ends the task."""
        raise TaskExit(sig, SigInfo(sig, code, addr))

    @kcall
    def pagefault_out_of_memory(self) -> None:
        """The OOM killer's only candidate is the task itself."""
        raise TaskExit(SIGKILL, SigInfo(SIGKILL, 0, 0))

    @kcall
    def kfence_handle_page_fault(self, addr: int, is_write: bool, regs: int) -> bool:
        """bool kfence_handle_page_fault(): the pool is empty, as with kfence.sample_interval=0: never its page."""
        return False

    @kcall
    def ktime_get_mono_fast_ns(self) -> int:
        """u64 ktime_get_mono_fast_ns(void): virtual time."""
        return self._ktime()
