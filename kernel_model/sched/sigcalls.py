"""System calls about signals, below what they copy (images/kernel/kernel/signal.c).

Mirrors kernel/signal.c: do_sigaction, do_sigpending, kill, tkill and tgkill. Leaves out: process groups (a pid of 0 or
less), sigqueue(2), sigtimedwait(2), signals to kernel threads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.signals import SI_TKILL, SI_USER, SigInfo
from kernel_model.sched.requests import Point, Sleeping
from kernel_model.sched.sighand import NSIG, SIG_KERNEL_ONLY, SigAction, bit
from kernel_model.sched.signal import Signals
from kernel_model.sched.task import Task, Tasks

_EPERM, _ESRCH, _EINVAL = 1, 3, 22
_UAPI_SA_FLAGS = 0xDC000807  # NOCLDSTOP NOCLDWAIT SIGINFO EXPOSE_TAGBITS RESTORER ONSTACK RESTART NODEFER RESETHAND
_SIGACTION = struct.Struct("<4Q")  # struct k_sigaction: handler, flags, restorer, mask


class SignalCalls:
    """kcalls of sigaction(2), sigpending(2) and kill(2)."""

    def __init__(self, tasks: Tasks, signals: Signals, current: Callable[[], Task], space: KernelSpace) -> None:
        self._tasks = tasks
        self._signals = signals
        self._current = current
        self._space = space

    @kcall
    def do_sigaction(self, sig: int, act: int, oact: int) -> int:
        """int do_sigaction(int sig, struct k_sigaction *act, struct k_sigaction *oact): kernel addresses or NULL."""
        if not 1 <= sig <= NSIG or act and bit(sig) & SIG_KERNEL_ONLY:
            return -_EINVAL
        task = self._current()
        if oact:
            old = task.sighand[sig]
            self._space.write(oact, _SIGACTION.pack(old.handler, old.flags, old.restorer, old.mask))
        if act:
            handler, flags, restorer, mask = _SIGACTION.unpack(self._space.read(act, _SIGACTION.size))
            task.sighand[sig] = SigAction(handler, flags & _UAPI_SA_FLAGS, restorer, mask & ~SIG_KERNEL_ONLY)
            if task.sighand.ignores(sig):  # what waits is forgotten, even where it is blocked
                task.signal.shared_pending.flush(bit(sig))
                for thread in self._tasks.group(task):
                    thread.pending.flush(bit(sig))
        return 0

    @kcall
    def do_sigpending(self) -> int:
        """sigset_t do_sigpending(void): what waits because it is blocked."""
        task = self._current()
        return self._signals.waiting(task) & int(task.view.blocked)

    @kcall
    def sys_kill(self, pid: int, sig: int) -> Sleeping:
        """long sys_kill(pid_t pid, int sig): one process; the number of any of its threads will do."""
        if pid <= 0:
            raise NotModelledError(f"kill(2): pid {pid}: process groups are not modelled")
        return (yield from self._send(self._find(pid), sig, SI_USER, group=True))

    @kcall
    def do_tkill(self, tgid: int, pid: int, sig: int) -> Sleeping:
        """int do_tkill(pid_t tgid, pid_t pid, int sig): one thread, of process `tgid` where that is not 0."""
        task = self._find(pid)
        if task is not None and tgid and task.tgid != tgid:
            task = None
        return (yield from self._send(task, sig, SI_TKILL, group=False))

    def _find(self, pid: int) -> Task | None:
        """find_task_by_vpid(); a thread that has ended is gone, but for the first one of a process."""
        for task in self._tasks.by_address.values():
            if task.pid == pid and (task.exit is None or task.pid == task.tgid):
                return task
        return None

    def _send(self, task: Task | None, sig: int, code: int, *, group: bool) -> Sleeping:
        sender = self._current()
        if task is None:
            return -_ESRCH
        if not 0 <= sig <= NSIG:  # check_kill_permission()
            return -_EINVAL
        if sender.uid and sender.uid != task.uid and sender.tgid != task.tgid:
            return -_EPERM
        if task.mm is None and task.exit is None:
            raise NotModelledError(f"kill(2): {task.comm}/{task.pid} is a kernel thread")
        if sig and (group or task.exit is None):
            self._signals.send(SigInfo(sig, code, pid=sender.tgid, uid=sender.uid), task, group=group)
            yield Point("wake")
        return 0
