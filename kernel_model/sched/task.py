"""Tasks: task_struct in guest memory, its kernel stack, and how a task ends.

Mirrors include/linux/sched.h and kernel/fork.c as far as one task after the other runs on a CPU. Leaves out
scheduling, credentials beyond the uid, and threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel_model.mm.signals import SigInfo
from kernel_model.mm.vma import MmStruct
from kernel_model.mm.vmalloc import THREAD_SIZE, Vmalloc
from kernel_model.types import Types, View

PF_KTHREAD = 0x00200000


class TaskExit(Exception):
    """The current task is gone: it exited, a signal killed it, or the kernel died under it. No error of ours."""

    def __init__(self, code: int, signal: SigInfo | None = None, oops: bool = False, panic: bool = False) -> None:
        super().__init__(f"task ended: code {code}, signal {signal}, oops {oops}")
        self.code = code  # wait status as exit_group gave it: exit code << 8, or the signal
        self.signal = signal
        self.oops = oops
        self.panic = panic


@dataclass(slots=True)
class Task:
    """One task. `stack` is the lowest address of its kernel stack, `address` that of its task_struct."""

    view: View
    pid: int
    comm: str
    stack: int
    mm: MmStruct | None
    uid: int = 0
    active_mm: MmStruct | None = None  # of a kernel thread: the address space it borrows

    @property
    def address(self) -> int:
        """struct task_struct *."""
        return self.view.address

    @property
    def stack_top(self) -> int:
        """One past the highest byte of the kernel stack."""
        return self.stack + THREAD_SIZE


class Tasks:
    """All tasks of a kernel; pids count up from `first_pid`."""

    def __init__(self, types: Types, vmalloc: Vmalloc, allocate: object, first_pid: int = 59) -> None:
        self._types = types
        self._vmalloc = vmalloc
        self._allocate = allocate
        self._next_pid = first_pid
        self.by_address: dict[int, Task] = {}

    def create(self, comm: str, mm: MmStruct | None, pid: int | None = None) -> Task:
        """A new task with a kernel stack of its own; a kernel thread where `mm` is None."""
        if pid is None:
            pid, self._next_pid = self._next_pid, self._next_pid + 1
        address = self._allocate.kzalloc(self._types.sizeof("task_struct"), "task_struct")  # type: ignore[attr-defined]
        view = self._types.view("task_struct", address)
        stack = self._vmalloc.alloc_thread_stack(f"stack of {comm}[{pid}]")
        task = Task(view, pid, comm[:15], stack, mm)
        view.pid = view.tgid = pid
        view.comm = task.comm
        view.stack = stack
        view.flags = 0 if mm is not None else PF_KTHREAD
        view.mm = mm.addr if mm is not None else 0
        view.active_mm = mm.addr if mm is not None else 0
        self.by_address[address] = task
        return task
