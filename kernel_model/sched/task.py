"""Tasks: task_struct in guest memory, its kernel stack, and how a task ends.

Mirrors include/linux/sched.h and kernel/fork.c (dup_task_struct). Leaves out: credentials beyond the uid, namespaces,
scheduling classes and priorities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kernel_model.fs.files import FilesStruct
from kernel_model.kcall import kcall
from kernel_model.memory import GuestMemory
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.signals import SigInfo
from kernel_model.mm.slab import Slab
from kernel_model.mm.vma import MmStruct
from kernel_model.mm.vmalloc import THREAD_SIZE, Vmalloc
from kernel_model.sched.sighand import SigHand, SignalStruct, SigPending
from kernel_model.types import Types, View

PF_FORKNOEXEC, PF_NOFREEZE, PF_KTHREAD, PF_RANDOMIZE = 0x00000040, 0x00008000, 0x00200000, 0x00400000
TASK_RUNNING, TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE = 0, 1, 2
TASK_DEAD, TASK_WAKEKILL = 0x80, 0x100
TASK_NORMAL = TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE
TIF_SIGPENDING, TIF_NEED_RESCHED = 1 << 1, 1 << 2
_NR_CACHED_STACKS = 4  # NR_CACHED_STACKS is 2 for each CPU


class TaskExit(Exception):
    """The current task is gone: it exited, a signal killed it, or the kernel died under it. No error of ours."""

    def __init__(
        self, code: int, signal: SigInfo | None = None, oops: bool = False, panic: bool = False, group: bool = True
    ) -> None:
        super().__init__(f"task ended: code {code}, signal {signal}, oops {oops}")
        self.code = code  # wait status as exit_group gave it: exit code << 8, or the signal
        self.signal = signal
        self.oops = oops
        self.panic = panic
        self.group = group  # the whole process ends, not this thread alone


@dataclass(slots=True, eq=False)
class KcallFrame:
    """A kcall that has begun and sleeps or waits for a guest function: its generator, and how the CPU was."""

    generator: Any
    frame_pointer: int  # of the kcall gate, see Machine.kcall_frame_pointer
    name: str
    call: Any = None  # the GuestCall it asked for, until that is made
    saved: bytes | None = None  # CPU state to return to while a guest function runs for it
    returns: tuple[int, int] | None = None  # address and stack pointer that say that this function has returned
    value: int | None = None  # what its yield expression gives next
    interrupt: bool = False  # no kcall at all: the kcall below was interrupted, and goes on when the handler returns


@dataclass(slots=True, eq=False)
class Task:
    """One task. `stack` is the lowest address of its kernel stack, `address` that of its task_struct."""

    view: View
    pid: int
    tgid: int
    comm: str
    stack: int
    mm: MmStruct | None
    _memory: GuestMemory
    _state_at: int  # physical
    uid: int = 0
    active_mm: MmStruct | None = None  # of a kernel thread: the address space it borrows
    cpu: int = 0  # the only CPU it runs on
    start: Callable[[Any], None] | None = None  # puts its first registers into its CPU
    context: bytes | None = None  # its registers while another task is current on its CPU
    frames: list[KcallFrame] = field(default_factory=list)
    blocked: bool = False  # it left its CPU in schedule() and waits for a wake-up
    spinning: bool = False  # it waits for another CPU in a loop, and nothing has happened since
    in_user: bool = False  # it was stopped in user mode, for another CPU's sake
    exit: TaskExit | None = None
    exit_signal: int = 17  # what the parent is told with: SIGCHLD or whatever clone() was given
    origin: int = 0  # of a process that was forked: tgid of the program that it all began with
    wake_time: int | None = None  # virtual ns at which a timeout wakes it
    files: FilesStruct | None = None  # its descriptors; None in a kernel thread, and where it has ended
    sighand: SigHand = field(default_factory=SigHand)
    signal: SignalStruct = field(default_factory=SignalStruct)
    pending: SigPending = field(default_factory=SigPending)

    @property
    def address(self) -> int:
        """struct task_struct *."""
        return self.view.address

    @property
    def stack_top(self) -> int:
        """One past the highest byte of the kernel stack."""
        return self.stack + THREAD_SIZE

    def exit_files(self) -> None:
        """exit_files(): its descriptors go, with the last task that has them the files too."""
        files, self.files = self.files, None
        if files is not None:
            files.put()

    @property
    def state(self) -> int:
        """task_struct.__state."""
        return self._memory.read_u32(self._state_at)

    @state.setter
    def state(self, value: int) -> None:
        self._memory.write_u32(self._state_at, value)


class Tasks:
    """All tasks of a kernel; pids count up from `first_pid`."""

    def __init__(self, types: Types, vmalloc: Vmalloc, slab: Slab, init_mm: InitMm, first_pid: int = 59) -> None:
        self._types = types
        self._vmalloc = vmalloc
        self._slab = slab
        self._init_mm = init_mm
        self.next_pid = first_pid
        self._cached_stacks: list[int] = []
        self.by_address: dict[int, Task] = {}

    def create(self, comm: str, mm: MmStruct | None, pid: int | None = None, leader: Task | None = None) -> Task:
        """A new task with a kernel stack of its own; a kernel thread where `mm` is None, a thread of `leader`'s
        process where one is given."""
        if pid is None:
            pid, self.next_pid = self.next_pid, self.next_pid + 1
        address = self._slab.kzalloc(self._types.sizeof("task_struct"), "task_struct")
        view = self._types.view("task_struct", address)
        stack = self._alloc_stack()
        state_at = self._init_mm.virt_to_phys(address + self._types.offsetof("task_struct", "__state"))
        assert state_at is not None
        tgid = leader.tgid if leader is not None else pid
        task = Task(view, pid, tgid, comm[:15], stack, mm, self._init_mm.memory, state_at)
        view.pid, view.tgid = pid, tgid
        view.group_leader = (leader or task).address
        view.comm = task.comm
        view.rcu_users.counter = 1
        view.stack = stack
        inherited = PF_KTHREAD | PF_NOFREEZE if mm is None else PF_RANDOMIZE
        view.flags = inherited | (PF_FORKNOEXEC if mm is None or leader is not None else 0)
        view.mm = mm.addr if mm is not None else 0
        view.active_mm = mm.addr if mm is not None else 0
        self.by_address[address] = task
        return task

    def _alloc_stack(self) -> int:
        """alloc_thread_stack_node(): a cached stack, cleared, or a new one."""
        if not self._cached_stacks:
            return self._vmalloc.alloc_thread_stack("kernel stack")
        stack = self._cached_stacks.pop()
        self._vmalloc.clear(stack)
        return stack

    def release(self, task: Task) -> None:
        """release_task(): its pid and its stack go, and its task_struct unless a program holds a reference."""
        task.exit_files()
        if len(self._cached_stacks) < _NR_CACHED_STACKS:
            self._cached_stacks.append(task.stack)
        else:
            self._vmalloc.vfree(task.stack)
        del self.by_address[task.address]
        task.view.mm = 0  # exit_mm()
        task.view.rcu_users.counter -= 1
        if not task.view.rcu_users.counter:
            self.__put_task_struct(task.address)

    @kcall
    def __put_task_struct(self, tsk: int) -> None:
        """void __put_task_struct(struct task_struct *tsk): the last reference is gone."""
        self._slab.kfree(tsk)

    @kcall
    def find_task_by_pid_ns(self, nr: int) -> int:
        """struct task_struct *find_task_by_pid_ns(pid_t nr): NULL for a pid that nobody has, or no longer; 0 is
        nobody's."""
        return next((t.address for t in self.by_address.values() if t.pid == nr and nr), 0)

    @kcall
    def idle_task(self, cpu: int) -> int:
        """struct task_struct *idle_task(int cpu)"""
        idle = [task.address for task in self.by_address.values() if not task.pid]
        return idle[cpu]

    @kcall
    def next_task(self, p: int) -> int:
        """struct task_struct *next_task(struct task_struct *p): of processes in the order of their creation; behind
        the last one comes init_task, which is CPU 0's idle task. It comes, too, behind one that is gone."""
        leaders = [task.address for task in self.by_address.values() if task.pid == task.tgid and task.pid]
        init = self.idle_task(0)
        circle = [init, *leaders, init]
        return circle[circle.index(p) + 1] if p in circle else init

    @kcall
    def __next_thread(self, p: int) -> int:
        """struct task_struct *__next_thread(struct task_struct *p): of its process; NULL behind the last one."""
        task = self.by_address.get(p)
        if task is None or not task.pid:
            return 0
        later = [t for t in self.by_address.values() if t.tgid == task.tgid]
        behind = later[later.index(task) + 1 :]
        return behind[0].address if behind else 0

    def ppid(self, task: Task) -> int:
        """task_ppid_nr(): whoever has no parent here is init's child, a kernel thread kthreadd's."""
        parent = self.by_address.get(int(task.view.real_parent))
        return parent.tgid if parent is not None else 1 if task.mm is not None else 2

    def group(self, task: Task) -> list[Task]:
        """The threads of a task's process, by pid."""
        return sorted((t for t in self.by_address.values() if t.tgid == task.tgid), key=lambda t: t.pid)
