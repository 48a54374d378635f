"""Processes of a booted kernel: loading programs, running their tasks to the end, and what is left of them.

Mirrors fs/exec.c and kernel/exit.c in what they leave behind. `Kernel` hands these methods on to its users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emu.runner import Runner
from emu.smp import Smp
from kernel_model.errors import KemuError
from kernel_model.fs.files import FilesStruct, OpenFiles
from kernel_model.fs.names import Names
from kernel_model.fs.syscalls import FileSyscalls
from kernel_model.image import Image
from kernel_model.mm.mm_types import VM_EXEC
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, do_mmap, setup_stack
from kernel_model.mm.signals import SigInfo
from kernel_model.mm.syscalls import MmSyscalls
from kernel_model.mm.tlb import FlushByGuest
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vdso import Vdso
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.sched.core import Scheduler
from kernel_model.sched.exit import Exit
from kernel_model.sched.fork import Fork
from kernel_model.sched.futex import Futexes
from kernel_model.sched.requests import GuestCall, Sleeping
from kernel_model.sched.sigcalls import SignalCalls
from kernel_model.sched.signal import Signals
from kernel_model.sched.task import Task, TaskExit, Tasks

if TYPE_CHECKING:
    from emu.kernel import Kernel

PAGE = 4096
USER_STACK_ROOM = 256  # left above the first stack pointer of a program


@dataclass(frozen=True, slots=True)
class UserResult:
    """How a user program ended."""

    exit_code: int | None  # None where a signal or an oops ended it
    signal: SigInfo | None
    oops: bool
    panic: bool
    dmesg: str  # what the kernel logged meanwhile
    values: dict[str, bytes] = field(default_factory=dict)  # contents of the variables that were asked for
    output: str = ""  # what it and its children wrote to descriptors 1 and 2; bytes that are no UTF-8 escaped


class StuckError(KemuError):
    """No task can move, and some have not ended."""


class Processes:
    """Everything that runs on one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.tasks = Tasks(kernel.types, kernel.vmalloc, kernel.slab, kernel.init_mm)
        machine = kernel.machine
        self._here: list[Task | None] = [None] * len(machine.cpus)  # `current` of each CPU
        self.sched = Scheduler(self.tasks, kernel.clock, self.current, len(machine.cpus))
        self.sched.on_exit.append(Task.exit_files)
        self.open_files = OpenFiles()
        self.names = Names(kernel.init_mm, kernel.objects, self.open_files)
        self._vdso = Vdso(kernel.init_mm) if kernel.arch.name == "arm64" else None
        self.idle: list[Task] = []
        self.runner = Runner(machine, self.sched, self.switch, self.current,
                             lambda cpu: self.switch(cpu, self.idle[cpu]), lambda cpu: self.smp.unlazy(cpu))
        self.smp = Smp(machine, kernel.mms, self._here, self.runner.idle, self.runner.interrupt)
        self.sched.smp_send_reschedule = self.smp.smp_send_reschedule
        self._text: dict[int, tuple[str, int]] = {}  # of pages that were text: image and address, by physical address

    def current(self) -> Task:
        """`current` of the CPU that executes."""
        task = self._here[self._kernel.machine.current_cpu]
        assert task is not None
        return task

    def add_idle(self, number: int) -> Task:
        """init_idle(): the task of a CPU that has nothing to do."""
        idle = self.tasks.create(f"swapper/{number}", None, pid=0)
        self.idle.append(idle)
        self.switch(number, idle)
        return idle

    def subsystems(self) -> list[object]:
        """Everything here that implements kcalls."""
        kernel = self._kernel
        signals = Signals(self.tasks, self.sched, self.current, kernel.space, kernel.types)
        return [
            self.sched,
            self.tasks,
            self.smp,
            signals,
            SignalCalls(self.tasks, signals, self.current, kernel.space),
            Fork(self.tasks, self.sched, self.current, kernel.arch_boot.copy_thread, kernel.space, self._adopt,
                 signals),
            Exit(self.tasks, self.sched, self.current, kernel.space, self._exit_mm, self.reap, signals),
            MmSyscalls(self.current, kernel.faults, self.open_files),
            FileSyscalls(self.current, self.open_files, kernel.init_mm, kernel.objects, kernel.space,
                         self.names, kernel.standard_file),
            Futexes(self.sched, self.current, kernel.user_space, lambda: kernel.clock.now),
        ]

    def switch(self, cpu: int, task: Task) -> None:
        """Per-CPU variables, stacks and address space of a task that becomes current."""
        kernel = self._kernel
        self._here[cpu] = task
        kernel.space.write_u64(kernel.percpu("current_task", cpu), task.address)
        kernel.space.write_u64(kernel.percpu("cpu_current_top_of_stack", cpu), task.stack_top)
        kernel.arch_boot.switch_to(cpu, task)
        self.smp.loaded(cpu)

    # -- beginning ---------------------------------------------------------------------------------------------------

    def exec(self, image: Image, program: str, comm: str | None = None, pid: int | None = None) -> Task:
        """A new process with `image` mapped and a stack, not yet started."""
        kernel = self._kernel
        mm = MmStruct(kernel.init_mm, kernel.objects, comm or program)
        mm.flush = kernel.machine.flush_tlb_kernel_range
        kernel.mms.add(mm)
        space = UserSpace(mm, kernel.faults)
        for segment in image.segments:
            prot = 1 | (2 if segment.writable else 0) | (4 if segment.executable else 0)
            low, high = segment.va & -PAGE, segment.va + segment.size + PAGE - 1 & -PAGE
            do_mmap(mm, low, high - low, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, name=program)
            space.poke(segment.va, segment.data.ljust(segment.size, b"\0"))
        mm.start_heap(max(s.va + s.size + PAGE - 1 & -PAGE for s in image.segments))
        setup_stack(mm)
        if self._vdso is not None:
            self._vdso.arch_setup_additional_pages(mm)
        self._bind_locks(mm)
        kernel.lockdep.saw_exec(mm.addr)
        task = self.tasks.create(comm or program, mm, pid)
        task.files = FilesStruct()
        return task

    def _adopt(self, mm: MmStruct) -> None:
        """An address space that fork() made: guest text can find it and waits for its locks."""
        self._kernel.mms.add(mm)
        self._bind_locks(mm)

    def _bind_locks(self, mm: MmStruct) -> None:
        """From now on other threads may hold VMAs of `mm` for reading: who changes one waits for them."""
        rcu = self._kernel.rcu

        def start_write(vma: VmArea) -> Sleeping:
            yield GuestCall("vma_start_write", vma.addr)

        def detach(vma: VmArea) -> Sleeping:
            yield GuestCall("vma_mark_detached", vma.addr)

        def free_vma(addr: int) -> Sleeping:
            def done() -> Sleeping:
                mm.objects.free(addr)
                return
                yield

            rcu.start(done)
            yield from rcu.poll()

        mm.start_write, mm.detach, mm.free_vma, mm.tlb = start_write, detach, free_vma, FlushByGuest()

    def start_user(self, task: Task, image: Image, cpu: int = 0) -> None:
        """Let a process begin at its program's `_start`."""
        assert task.mm is not None
        sp = (task.mm.task_size & -PAGE) - USER_STACK_ROOM

        def first(vcpu: object) -> None:
            vcpu.enter_user(image.addresses["_start"], sp)  # type: ignore[attr-defined]
            self._forget_old_code(task, image)

        task.start = first
        self.sched.start(task, cpu)

    def _forget_old_code(self, task: Task, image: Image) -> None:
        """The pages of a program's text may have held another program's before: its translations must go.

        Only after enter_user(): the CPU looks the pages up with the rights it has. Other CPUs, on which threads and
        children may run, cannot look at them now: they forget everything where a page holds other text than before.
        """
        assert task.mm is not None
        cpus = self._kernel.machine.cpus
        other_text = False
        for vma in task.mm.vmas():
            for va in range(vma.vm_start, vma.vm_end, PAGE) if vma.vm_flags & VM_EXEC else ():
                pa = task.mm.tree.walk(va).pa
                if pa is not None:
                    cpus[task.cpu].engine.remove_code(va, va + PAGE)
                    text = image.name, va
                    other_text |= self._text.setdefault(pa, text) != text
                    self._text[pa] = text
        for cpu in cpus:
            if other_text and cpu.number != task.cpu:
                cpu.flush_code()

    def poke(self, task: Task, image: Image, variables: Mapping[str, bytes | int]) -> None:
        """Set global variables of a program; ints as 8 bytes."""
        assert task.mm is not None
        space = UserSpace(task.mm, self._kernel.faults)
        for name, value in variables.items():
            space.poke(image.addresses[name], value if isinstance(value, bytes) else value.to_bytes(8, "little"))

    def peek(self, task: Task, image: Image, name: str, size: int) -> bytes:
        """Contents of a global variable of a program."""
        assert task.mm is not None
        return UserSpace(task.mm, self._kernel.faults).read(image.addresses[name], size)

    # -- running -----------------------------------------------------------------------------------------------------

    def run_group(self, task: Task) -> bool:
        """Run everything until all threads of `task`'s process have ended; False where nothing can move before."""

        def done() -> bool:
            return all(t.exit is not None for t in self.tasks.group(task))

        try:
            return done() or self.runner.run(done)
        finally:
            self._idle()

    def run_to_end(self, task: Task) -> TaskExit:
        """Run everything until `task` and the other threads of its process have ended.

        StuckError names the tasks that wait where nothing can move any more.
        """
        try:
            if not self.run_group(task):
                waiting = ", ".join(f"{t.comm}/{t.pid} in {self.waits_in(t)}" for t in self.sched.run_list)
                raise StuckError(f"nothing can move: {waiting}")
        except KemuError:
            self._lose(task)
            raise
        self._kernel.deferred.run()
        oopsed = next((t.exit for t in self.tasks.group(task) if t.exit is not None and t.exit.oops), None)
        ended = self.sched.group_exit.pop(task.tgid, None) or task.exit
        assert ended is not None
        return oopsed or ended

    def _lose(self, task: Task) -> None:
        """The threads of a process that cannot be run to their end are gone all the same."""
        for lost in self.tasks.group(task):
            if lost.exit is None:
                self.sched.ended(lost, TaskExit(9, group=False))

    def run_until(self, time: int) -> None:
        """Run whatever can run until virtual time `time` (ns), and let the rest of it pass."""
        self.sched.horizon = time
        try:
            self.runner.run(lambda: False)
        finally:
            self.sched.horizon = None
            self._idle()
        self._kernel.clock.now = max(self._kernel.clock.now, time)

    def kill(self, task: Task) -> None:
        """`kill -9` of a process, and everything of it given back. Whoever waits uninterruptibly is lost."""
        for thread in self.tasks.group(task):
            if thread.exit is None:
                self.sched.kill(thread)
        try:
            self.run_group(task)
        finally:
            self._lose(task)
            self.sched.group_exit.pop(task.tgid, None)
            self.reap(task)
        self._kernel.deferred.run()

    def waits_in(self, task: Task) -> str:
        """The innermost kernel function that a blocked task sleeps in, as the model knows it."""
        return task.frames[-1].name if task.frames else "user mode"

    def _idle(self) -> None:
        """Every CPU goes back to its idle task."""
        for number, idle in enumerate(self.idle):
            here = self._here[number]
            if here is not None and here is not idle and here.exit is not None:
                self.switch(number, idle)

    def run_user(
        self, task: Task, image: Image, variables: Mapping[str, bytes | int], cpu: int, read: Mapping[str, int]
    ) -> UserResult:
        """Run a process to its end; see Kernel.run_user()."""
        before = len(self._kernel.console.lines)
        self._kernel.output.take()
        self.poke(task, image, variables)
        self.start_user(task, image, cpu)
        try:
            ended = self.run_to_end(task)
            values = {name: self.peek(task, image, name, size) for name, size in read.items()}
        finally:
            self.reap(task)
        code = None if ended.signal or ended.oops else ended.code >> 8
        return UserResult(code, ended.signal, ended.oops, ended.panic, self._log_since(before), values,
                          self._kernel.output.take().decode(errors="backslashreplace"))

    def _log_since(self, before: int) -> str:
        return "".join(line + "\n" for line in self._kernel.console.lines[before:])

    def run_kthread(self, function: str, argument: bytes, comm: str, shell: Task, cpu: int) -> UserResult:
        """kthread_run(): a kernel thread runs a guest function on `argument` to its end, with the address space of
        `shell`, which ran before, still loaded (active_mm), as lazy TLB switching leaves it."""
        kernel = self._kernel
        assert shell.mm is not None
        root = shell.mm.pgd
        task = self.tasks.create(comm, None)
        task.active_mm, task.view.active_mm = shell.mm, shell.mm.addr
        data = kernel.slab.kzalloc(len(argument) + 17, "kthread_create_info")
        kernel.space.write_u64(data, kernel.machine.symbol(function))
        kernel.space.write_u64(data + 8, data + 16)
        kernel.space.write(data + 16, argument)

        def first(vcpu: object) -> None:
            vcpu.set_root(root)  # type: ignore[attr-defined]
            kernel.arch_boot.start_kthread(vcpu, task.stack_top, kernel.machine.symbol("kthread"), data)

        task.start = first
        before = len(kernel.console.lines)
        self.sched.start(task, cpu)
        try:
            ended = self.run_to_end(task)
        finally:
            for gone in (task, shell):
                self.reap(gone)
            kernel.slab.kfree(data)
        code = None if ended.oops else ended.code
        return UserResult(code, ended.signal, ended.oops, ended.panic, self._log_since(before))

    # -- ending ------------------------------------------------------------------------------------------------------

    def reap(self, task: Task) -> None:
        """release_task() of every thread of a process, and mmput(). With a program that was run here go all processes
        that it or its children made."""
        if not task.origin:
            self._zap_descendants(task)
        self.sched.group_exit.pop(task.tgid, None)
        for thread in self.tasks.group(task):
            self._leave_cpu(thread)
            self.tasks.release(thread)
        if task.mm is not None:
            self._mmput(task.mm)

    def _leave_cpu(self, task: Task) -> None:
        """No CPU has the registers or the address space of `task`, which has ended."""
        self.runner.forget(task)
        for number, idle in enumerate(self.idle):
            if self._here[number] is task:
                self.switch(number, idle)

    def _exit_mm(self, task: Task) -> None:
        """exit_mm() of the last thread of a process that was forked: nobody outside will look at its memory."""
        mm = task.mm
        assert mm is not None
        for thread in self.tasks.group(task):
            self._leave_cpu(thread)
            thread.mm, thread.view.mm, thread.view.active_mm = None, 0, 0
        self._mmput(mm)

    def _mmput(self, mm: MmStruct) -> None:
        """mmput(): the last process of an address space takes it along."""
        if all(t.mm is not mm for t in self.tasks.by_address.values()):
            self._kernel.mms.remove(mm)
            mm.exit_mmap()

    def _zap_descendants(self, task: Task) -> None:
        """zap_pid_ns_processes(): a program here is to its processes what init is to a pid namespace."""
        left = [t for t in self.tasks.by_address.values() if t.origin == task.tgid]
        for other in left:
            if other.exit is None:
                self.sched.kill(other)
        try:
            if any(t.exit is None for t in left):
                self.runner.run(lambda: all(t.exit is not None for t in left))
        except KemuError:
            pass  # whoever cannot be run to the end is lost
        finally:
            self._idle()
        for other in left:
            if other.exit is None:
                self.sched.ended(other, TaskExit(9, group=False))
