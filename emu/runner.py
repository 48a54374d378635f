"""Runs tasks on the vCPUs: gives the chosen task its CPU, and goes on with kcalls that sleep.

Mirrors what context_switch() and __switch_to() do with registers; who is chosen is the scheduler's business
(kernel_model/sched/core.py). A task that sleeps in a kcall has left its CPU at the kcall gate: its registers are in
the engine or in task.context, and the kcall's generator waits in task.frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from emu.machine import Machine
from kernel_model.errors import BudgetExceededError, NotModelledError
from kernel_model.kcall import result as as_result
from kernel_model.sched.core import Scheduler
from kernel_model.sched.requests import GuestCall, Point, Sleeping
from kernel_model.sched.task import KcallFrame, Task, TaskExit


class Switch(Protocol):
    """Makes a task current on a CPU: per-CPU variables, stacks and the address space."""

    def __call__(self, cpu: int, task: Task) -> None: ...


class Runner:
    """The outer loop of the machine. `go_idle(cpu)` makes a CPU's idle task current, `unlazy(cpu)` says that a task
    goes on which its CPU has idled after."""

    def __init__(
        self, machine: Machine, sched: Scheduler, switch: Switch, current: Callable[[], Task],
        go_idle: Callable[[int], None], unlazy: Callable[[int], None],
    ) -> None:
        self._machine = machine
        self._sched = sched
        self._switch = switch
        self._current = current
        self._go_idle = go_idle
        self._unlazy = unlazy
        self._after_trap = machine.symbol("kcall_trap_end")
        self._loaded: list[Task | None] = [None] * len(machine.cpus)  # whose registers each engine holds
        self._interrupts: list[list[int]] = [[] for _ in machine.cpus]  # that each has yet to take
        self._idled = [False] * len(machine.cpus)  # since the task went on that it has loaded
        self.user_points = 0  # decision points in user code from one tick to the next, where nothing else stops it
        self._slices = [0] * len(machine.cpus)  # how many of the stretches between them each CPU has run
        self.switches = 0
        self.max_sleeping_kcalls = 2_000_000  # in one run: a guest that only asks and never ends runs wild
        self._sleeping_kcalls = 0
        machine.sleeping = self._begin
        machine.returned = self._returned
        machine.returning = self._returning

    # -- kcalls that may sleep: called from the gate, inside the engine's hook ---------------------------------------

    def _begin(self, name: str, generator: Sleeping) -> bool:
        """True where the kcall is done and the guest may go on, False where the engine must stop."""
        machine = self._machine
        if machine.calls:  # a guest function that Python called: nothing else can run underneath it
            machine.answer(self._run_through(name, generator))
            return True
        task = self._current()
        self._sleeping_kcalls += 1
        if self._sleeping_kcalls > self.max_sleeping_kcalls:
            raise BudgetExceededError(f"{task.comm}/{task.pid} in {name}: the guest runs wild: "
                                      f"{self.max_sleeping_kcalls} calls that may sleep, and no end")
        task.frames.append(KcallFrame(generator, machine.kcall_frame_pointer, name))
        return self._advance(task)

    def _run_through(self, name: str, generator: Sleeping) -> int:
        value, frame_pointer = None, self._machine.kcall_frame_pointer
        while True:
            try:
                request = generator.send(value)
            except StopIteration as done:
                return as_result(done.value)
            if isinstance(request, GuestCall):
                value = self._machine.call(request.function, *request.arguments, return_address=request.return_address,
                                           frame_pointer=frame_pointer, frames=request.frames)
            elif isinstance(request, Point):
                value = None
            else:
                where = "in a guest function that the interpreter or the kernel model called"
                raise NotModelledError(f"{name}: the task would sleep {where}, and nothing can run underneath it")

    def _advance(self, task: Task) -> bool:
        """Go on with the innermost kcall of `task` until it is done (True) or the CPU must do something else."""
        frame = task.frames[-1]
        send, sched = frame.generator.send, self._sched
        value, frame.value = frame.value, None
        while True:
            try:
                request = send(value)
            except StopIteration as done:
                task.frames.pop()
                self._machine.answer(as_result(done.value))
                return True
            value = None
            kind = type(request)
            if kind is Point:
                if not sched.stays(task, request.kind):
                    return False
            elif kind is GuestCall:
                frame.call = request
                sched.chosen = task
                return False
            elif sched.blocks(task):
                return False

    def _returned(self) -> None:
        """A guest function that a kcall asked for has returned: the engine stops, see `_continue`."""
        task = self._current()
        self._sched.chosen = task

    def _returning(self, address: int, sp: int) -> bool:
        """Whether a CPU that comes by `address` there returns from a function that its task's kcall asked for."""
        frames = self._current().frames
        return bool(frames) and frames[-1].saved is not None and frames[-1].returns == (address, sp)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self, done: Callable[[], bool]) -> bool:
        """Run tasks until `done()`, asked whenever a task has ended; False where no task can move before that.

        KemuError where a guest uses up its budget or the CPU stops by itself: the task that was running is lost.
        """
        machine, sched = self._machine, self._sched
        task: Task | None = None
        sched.chosen = None
        self._sleeping_kcalls = sched.ticks = 0
        self._slices = [0] * len(self._slices)
        machine.depth += 1
        try:
            with machine.watchdog():
                while not done():
                    for number, interrupts in enumerate(self._interrupts):
                        if interrupts and self.idle(number):
                            self._idle_cpu_takes_interrupts(number)
                    task = sched.pick(task)
                    if task is None:
                        return False
                    machine.check_watchdog()
                    try:
                        self._step(task)
                    except TaskExit as exit_:
                        sched.ended(task, exit_)
        finally:
            machine.depth -= 1
        return True

    def _step(self, task: Task) -> None:
        """Let `task` run until its CPU stops for a reason of the kernel's."""
        machine, number = self._machine, task.cpu
        cpu = machine.cpus[number]
        machine.current_cpu = number
        if self._loaded[number] is not task or self._idled[number]:
            if self._loaded[number] is not task:
                self._load(cpu, task)
            else:
                self._unlazy(number)
            self._idled[number] = False
            task.view.on_cpu = 1
            self._sched.on_cpu[number] = task
        task.in_user = False
        ip = self._continue(cpu, task)
        if ip is not None:
            self._resume(cpu, ip)
        if machine.take_slice_over():
            self._slice_over(cpu, task)
        self._idled[number] = task.blocked

    def _resume(self, cpu: Any, ip: int) -> None:
        """Let a CPU go on; where an interrupt waits that was masked, not beyond the way into user mode."""
        machine = self._machine
        if not self._interrupts[cpu.number] and not self.user_points:
            machine.resume(cpu, ip)
            return
        whole = machine.user_slice
        machine.user_slice = 1 if self._interrupts[cpu.number] else max(whole // (self.user_points + 1), 1)
        try:
            machine.resume(cpu, ip)
        finally:
            machine.user_slice = whole

    def _slice_over(self, cpu: Any, task: Task) -> None:
        """User code has been stopped: an interrupt waits, or the timer sends one, or it is a decision point."""
        number, sched = cpu.number, self._sched
        if not self._interrupts[number]:
            self._slices[number] = (self._slices[number] + 1) % (self.user_points + 1)
            if self._slices[number]:
                task.in_user = True
                if not sched.stays(task, "user"):
                    return
            else:
                self.interrupt(number, cpu.TIMER_IRQ)
        sched.chosen = task

    # -- interrupts --------------------------------------------------------------------------------------------------

    def interrupt(self, number: int, irq: int) -> None:
        """CPU `number` takes interrupt `irq` as soon as it moves and lets interrupts in, at once where it is idle;
        once, however often it is asked before."""
        if irq not in self._interrupts[number]:
            self._interrupts[number].append(irq)
        if self.idle(number):
            self._idle_cpu_takes_interrupts(number)

    def idle(self, number: int) -> bool:
        """Whether no task runs on a CPU: its last one has blocked or ended."""
        task = self._sched.on_cpu[number]
        return task is None or task.blocked or task.exit is not None

    def _idle_cpu_takes_interrupts(self, number: int) -> None:
        """The idle task of a CPU handles what has come for it."""
        self._unload(number)
        self._loaded[number] = self._sched.on_cpu[number] = None
        self._go_idle(number)
        while self._interrupts[number]:
            self._machine.interrupt_idle(number, self._interrupts[number].pop(0))

    def _take_interrupt(self, cpu: Any, task: Task) -> bool:
        """Whether the CPU of `task` takes an interrupt now: in user mode, or in the kcall that it has stopped in, which
        waits until the handler returns."""
        irq = self._interrupts[cpu.number][0]
        if not task.frames:
            taken = bool(cpu.raise_irq(irq))
        else:
            frame = task.frames[-1]
            back = self._machine.kcall_return(frame.name)
            saved = cpu.engine.snapshot()
            taken = bool(cpu.raise_irq(irq, back))
            if taken:
                task.frames.append(KcallFrame(None, frame.frame_pointer, frame.name, saved=saved, interrupt=True))
        if taken:
            self._interrupts[cpu.number].pop(0)
        return taken

    def _unload(self, number: int) -> None:
        """Keep the registers of the task that a CPU holds, where it will go on."""
        old = self._loaded[number]
        if old is not None and old.exit is None:
            old.context = self._machine.cpus[number].engine.snapshot()
            old.view.on_cpu = 0

    def _load(self, cpu: Any, task: Task) -> None:
        self._unload(cpu.number)
        self.switches += 1
        self._loaded[cpu.number] = task
        if task.context is not None:
            cpu.engine.resume(task.context)
            task.context = None
            self._switch(cpu.number, task)
        else:
            self._switch(cpu.number, task)
            assert task.start is not None
            task.start(cpu)

    def forget(self, task: Task) -> None:
        """`task` is gone; its CPU's registers are nobody's."""
        for number, loaded in enumerate(self._loaded):
            if loaded is task:
                self._loaded[number] = None
        for number, on_cpu in enumerate(self._sched.on_cpu):
            if on_cpu is task:
                self._sched.on_cpu[number] = None

    def _continue(self, cpu: Any, task: Task) -> int | None:
        """Go on with what `task` sleeps in; the address where its CPU goes on, None where it gave up the CPU again."""
        while task.frames:
            frame = task.frames[-1]
            if frame.saved is not None and self._machine.take_return():
                frame.value = cpu.result
                cpu.engine.resume(frame.saved)
                frame.saved = None
                if frame.interrupt:
                    task.frames.pop()
                    continue
            elif frame.saved is not None:
                return int(cpu.ip)  # in the guest function, stopped in between
            if self._interrupts[cpu.number] and self._take_interrupt(cpu, task):
                return int(cpu.ip)
            if frame.call is not None:
                call, frame.call = frame.call, None
                frame.saved = cpu.engine.snapshot()
                back = call.return_address
                if back is None:
                    back = self._machine.kcall_return(frame.name)
                else:
                    self._machine.watch_return(back)
                sp = self._machine.enter_call(cpu, call.function, call.arguments, cpu.sp, frames=call.frames,
                                              return_address=back, frame_pointer=frame.frame_pointer)
                frame.returns = back, sp
                return int(cpu.ip)
            if self._advance(task):
                return self._after_trap
            if frame.call is None:
                return None
        if self._interrupts[cpu.number]:
            self._take_interrupt(cpu, task)
        return int(cpu.ip)
