"""Threads and processes: how they begin, and how they end by themselves.

Mirrors kernel/fork.c (kernel_clone, copy_process) and kernel/exit.c (do_exit, do_group_exit). Leaves out: vfork,
namespaces, ptrace, thread-local storage registers. A new task is placed on the CPU with the fewest tasks, the lower
number among equals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.vma import MmStruct
from kernel_model.sched.core import Scheduler
from kernel_model.sched.requests import GuestCall, Point, Sleeping
from kernel_model.sched.signal import Signals, copy_signals
from kernel_model.sched.task import PF_FORKNOEXEC, Task, TaskExit, Tasks

_ENOMEM, _EINVAL, _ERESTARTNOINTR = 12, 22, 513
_CSIGNAL = 0xFF
TASK_COMM_LEN = 16
CLONE_VM, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD = 0x100, 0x400, 0x800, 0x10000
CLONE_PIDFD, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT = 0x1000, 0x2000, 0x4000, 0x8000
CLONE_SETTLS, CLONE_PARENT_SETTID = 0x80000, 0x100000
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x200000, 0x1000000
_NOT_MODELLED = (
    (CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID,
     "thread-local storage and tid words are"),
    (CLONE_VFORK, "vfork is"),
    (CLONE_PIDFD | CLONE_PTRACE | CLONE_PARENT, "pidfds, ptrace and siblings are"),
)


class ThreadCopier(Protocol):
    """copy_thread(): registers and kernel stack of a new task."""

    def __call__(self, child: Task, regs: int, newsp: int) -> None:
        """`child` returns to user mode with the registers at `regs`, result 0 and, where not 0, stack `newsp`."""
        ...


class Fork:
    """kcalls that make and end tasks."""

    def __init__(
        self, tasks: Tasks, sched: Scheduler, current: Callable[[], Task], copy_thread: ThreadCopier,
        space: KernelSpace, adopt: Callable[[MmStruct], None], signals: Signals,
    ) -> None:
        self._tasks = tasks
        self._sched = sched
        self._current = current
        self._copy_thread = copy_thread
        self._space = space
        self._adopt = adopt  # makes a new mm known
        self._signals = signals

    @kcall
    def kernel_clone(
        self, flags: int, newsp: int, parent_tid: int, child_tid: int, tls: int, regs: int
    ) -> Sleeping:
        """pid_t kernel_clone(): `flags` as clone(2) takes them; the child's pid or -errno."""
        if flags & CLONE_THREAD and not flags & CLONE_SIGHAND or flags & CLONE_SIGHAND and not flags & CLONE_VM:
            return -_EINVAL
        for bits, what in _NOT_MODELLED:
            if flags & bits:
                raise NotModelledError(f"clone: flags {flags:#x}: {what} not modelled")
        parent = self._current()
        if not flags & CLONE_THREAD:
            yield Point("point")  # siglock, under which a new process is announced to those that send signals
        if self._signals.recalc_sigpending(parent):  # those first: the child would not get them
            return -_ERESTARTNOINTR
        mm = parent.mm
        if not flags & CLONE_VM and (mm := (yield from self._copy_mm(parent))) is None:
            return -_ENOMEM
        thread = bool(flags & CLONE_THREAD)
        child = self._tasks.create(parent.comm, mm, leader=parent if thread else None)
        child.view.flags |= PF_FORKNOEXEC
        child.exit_signal = flags & _CSIGNAL
        child.origin = parent.origin if thread else parent.origin or parent.tgid
        if parent.files is not None:  # copy_files()
            child.files = parent.files.share() if flags & CLONE_FILES else parent.files.dup_fd()
        child.uid, child.view.uid = parent.uid, parent.uid
        child.view.real_parent = parent.view.real_parent if flags & CLONE_THREAD else parent.address
        copy_signals(child, parent, sighand=bool(flags & CLONE_SIGHAND), thread=thread, memory=bool(flags & CLONE_VM))
        self._copy_thread(child, regs, newsp)
        self._sched.start(child, self._sched.idlest_cpu())
        yield Point("fork")
        return child.pid

    def _copy_mm(self, parent: Task) -> Sleeping:
        """copy_mm(): a copy of the parent's address space; None where it was killed or memory is short."""
        old = parent.mm
        new: MmStruct | None
        assert old is not None
        if (yield GuestCall("mmap_write_lock_killable", old.addr)) & 0xFFFF_FFFF:
            return None
        try:
            new = yield from dup_mm(old, parent.comm)
        except OutOfMemoryError:
            new = None
        yield GuestCall("mmap_write_unlock", old.addr)
        if new is not None and parent.view.sigkill_pending:  # who dies has no more children
            new.exit_mmap()
            return None
        if new is not None:
            self._adopt(new)
        return new

    @kcall
    def __set_task_comm(self, tsk: int, buf: int, exec_: bool) -> None:
        name = self._space.read_cstr(buf, TASK_COMM_LEN).decode("latin-1")
        task = self._tasks.by_address[tsk]
        task.comm = task.view.comm = name[: TASK_COMM_LEN - 1]

    @kcall
    def do_task_dead(self, code: int, group: bool) -> None:
        """The end of do_exit(): this thread ends, with `group` its whole process; the last one takes the process with
        it. `code` as wait(2) shows it."""
        task = self._current()
        alone = all(t is task or t.exit is not None for t in self._tasks.group(task))
        raise TaskExit(code, group=group or alone)

    @kcall
    def fatal_signal_pending(self, task: int) -> bool:
        """bool fatal_signal_pending(struct task_struct *p)"""
        return bool(self._tasks.by_address[task].view.sigkill_pending)
