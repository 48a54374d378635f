"""Runs guest functions of several tasks on one engine, in every order that decision points allow.

A task is a script of calls. It stops where guest text calls sched_point(), cpu_relax(), wake_up_process() or
schedule(), and between two calls; there the next task is chosen. A state of everything (lock, task_structs, live
stacks, callee-saved registers) that was seen before is not explored again. Every task has a CPU of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.images.conftest import BareGuest, make_guest

TASKS = 4
STACK_BYTES = 1536  # of each stack that are put back
TASK_RUNNING, TASK_NORMAL, TASK_SIGNALED = 0, 3, 0x101
RUN, KILL = "run", "kill"
SPINS, SLEEPS = ("cpu_relax",), ("schedule", "schedule_preempt_disabled", "context_switch")
WAKES = ("wake_up_process", "try_to_wake_up")
EINTR = (1 << 32) - 4


@dataclass(frozen=True, slots=True)
class Call:
    """One step of a script. `takes`: what is held after success, always or where `ok(result)`; `gives`: what is given
    back, and where that had not been taken the step is left out. `before` is run when the call begins."""

    function: str
    args: tuple[int, ...] = ()
    takes: str = ""
    gives: str = ""
    ok: Callable[[int], bool] | None = None
    before: Callable[[Stage], None] | None = None


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where a task is. `context` and `kcall` where it is stopped inside a call."""

    at: int = 0
    context: bytes | None = None
    kcall: tuple[str, tuple[int, ...]] | None = None
    spun: bool = False
    blocked: bool = False
    results: tuple[int, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Everything: guest memory and where each task is."""

    memory: tuple[bytes, ...]
    tasks: tuple[TaskState, ...]


@dataclass(slots=True)
class Outcome:
    """All ends of an exploration as (results of each task, who is blocked, first word of the lock)."""

    ends: set[tuple[tuple[tuple[int, ...], ...], tuple[int, ...], int]] = field(default_factory=set)
    states: int = 0
    edges: int = 0


class Stage:
    """One guest with a page for locks, TASKS task_structs and stacks. LOCK is the page's begin."""

    TREE, CLOCK, PARTS = 0x3F0, 0x3F8, 0x400  # of the page: whether a VMA can be found, the clock, the task_structs

    def __init__(self, arch: str) -> None:
        self.guest: BareGuest = make_guest(arch)
        guest = self.guest
        pa = guest.mm.pages.alloc_pages(1, "locks", zero=True) << 12
        self.lock = guest.mm.phys_to_virt(pa)
        size = -(-guest.types.sizeof("task_struct") // 16) * 16
        self.tasks = [self.lock + self.PARTS + size * i for i in range(TASKS)]
        self.page = guest.cpu.memory.view(pa, self.PARTS + size * TASKS)
        self.views = [guest.types.view("task_struct", task) for task in self.tasks]
        self.stacks, self.windows = [], [self.page]
        for _ in range(TASKS):
            top = guest.vmalloc.alloc_thread_stack() + 16384
            self.stacks.append(top)
            self.windows.append(guest.cpu.memory.view(guest.space.translate(top - STACK_BYTES), STACK_BYTES))
        self.current = guest.symbols["current_task"] + self._percpu(guest)
        self.clock_step = 0
        self.preempted = False  # owners look as if they had no CPU: nobody spins for them
        self.answers: dict[str, Callable[..., int]] = {"sched_clock": self._sched_clock, "mas_walk_vma": lambda *_: 0}
        self._stop: tuple[str, tuple[int, ...]] | None = None
        self._resuming = False
        self._result = 0
        guest.answer = self._gate  # type: ignore[method-assign]
        self.blank = tuple(bytes(w) for w in self.windows)

    @staticmethod
    def _percpu(guest: BareGuest) -> int:
        """Offset of the per-CPU area: where make_guest() put a task."""
        cpu: Any = guest.cpu
        return int(cpu.gs_base) if guest.arch == "x86_64" else int(cpu.read_sysreg("tpidr_el1"))

    def read(self, offset: int, size: int = 8, signed: bool = False) -> int:
        """An integer of the page."""
        return int.from_bytes(self.page[offset : offset + size], "little", signed=signed)

    def write(self, offset: int, value: int, size: int = 8) -> None:
        """Set an integer of the page."""
        self.page[offset : offset + size] = value.to_bytes(size, "little")

    def _sched_clock(self) -> int:
        """Each reading moves the time on: it is a part of the state only through who has read it."""
        self.write(self.CLOCK, self.read(self.CLOCK) + self.clock_step)
        return self.read(self.CLOCK)

    def _gate(self, name: str, arguments: tuple[int, ...]) -> int:
        if self._resuming:  # a stop comes before the instruction: the gate is passed a second time
            self._resuming = False
            return self._result
        if name in self.answers:
            return self.answers[name](*arguments)
        self._stop = (name, arguments)
        self.guest.cpu.stop()
        return 0

    # -- one step ----------------------------------------------------------------------------------------------------

    def step(self, number: int, task: TaskState, script: Sequence[Call]) -> TaskState:
        """Let task `number` go on to its next decision point."""
        guest, cpu = self.guest, self.guest.cpu
        guest.space.write_u64(self.current & (1 << 64) - 1, self.tasks[number])
        self._stop = None
        if task.context is None:
            call = script[task.at]
            if call.gives and (not task.held or task.held[-1] != call.gives):
                return replace(task, at=task.at + 1, held=task.held[:-1], results=(*task.results, 0))
            if call.before:
                call.before(self)
            if call.gives:  # releasing is the first thing that such a call does
                task = replace(task, held=(*task.held[:-1], *(["R"] if call.function == "downgrade_write" else [])))
            top = self.stacks[number]
            cpu.enter_kernel(guest.symbols[call.function], top - 8 if guest.arch == "x86_64" else top, call.args)
            cpu.push_return(top, guest.symbols["guest_call_return"])
        else:
            assert task.kcall is not None
            cpu.engine.resume(task.context)
            self._result = 1 if task.kcall[0] in WAKES else 0
            self._resuming = cpu.ip == guest.symbols["kcall_trap"]
            if not self._resuming:
                raise AssertionError("the engine stops elsewhere now")
        cpu.run()
        if self._stop is None:
            return self._returned(task, script[task.at], cpu.result)
        name, _ = self._stop
        blocked = name in SLEEPS and self._goes_to_sleep(number)
        self.views[number].on_cpu = 0 if blocked or self.preempted else 1
        return replace(task, context=cpu.engine.snapshot(), kcall=self._stop, spun=name in SPINS, blocked=blocked)

    def _returned(self, task: TaskState, call: Call, result: int) -> TaskState:
        held = task.held
        if call.takes:
            held += (call.takes if call.ok is None or call.ok(result & 0xFFFF_FFFF) else "",)
        return replace(task, at=task.at + 1, context=None, kcall=None, spun=False, held=held,
                       results=(*task.results, result & 0xFFFF_FFFF if call.ok else 0))

    def _goes_to_sleep(self, number: int) -> bool:
        state = self.state(number)
        if state & TASK_SIGNALED and self.views[number].sigkill_pending:
            setattr(self.views[number], "__state", TASK_RUNNING)
            return False
        return state != TASK_RUNNING

    def state(self, number: int) -> int:
        """task_struct.__state"""
        return int(getattr(self.views[number], "__state"))

    def wake(self, tasks: list[TaskState], number: int, states: int) -> None:
        """try_to_wake_up()"""
        if self.state(number) & states:
            setattr(self.views[number], "__state", TASK_RUNNING)
            if tasks[number].blocked:
                self.views[number].on_cpu = 0 if self.preempted else 1
                tasks[number] = replace(tasks[number], blocked=False)


class Explorer:
    """All interleavings of `scripts`. `check(state)` sees every state, `lockstep(path, state)` every edge."""

    def __init__(
        self, stage: Stage, scripts: Sequence[Sequence[Call]], init: Callable[[Stage], None], *,
        kills: Sequence[int] = (), check: Callable[[State], None] | None = None,
        lockstep: Callable[[tuple[tuple[str, int], ...], State], None] | None = None, max_states: int = 60_000,
    ) -> None:
        self.stage, self.scripts, self.kills = stage, scripts, kills
        self.check, self.lockstep, self.max_states = check, lockstep, max_states
        self._load(State(stage.blank, ()))
        init(stage)
        for number in range(len(scripts)):
            stage.views[number].on_cpu = 0 if stage.preempted else 1
        self.start = State(self._save(), tuple(TaskState() for _ in scripts))
        self._key = self._x86_key if stage.guest.arch == "x86_64" else self._arm64_key

    def _save(self) -> tuple[bytes, ...]:
        return tuple(bytes(w) for w in self.stage.windows)

    def _load(self, state: State) -> None:
        for window, data in zip(self.stage.windows, state.memory, strict=True):
            window[:] = data

    # -- identity of states ------------------------------------------------------------------------------------------

    def _x86_key(self, context: bytes) -> tuple[bytes, int]:
        return context[24:48] + context[96:128], int.from_bytes(context[32:40], "little")

    def _arm64_key(self, context: bytes) -> tuple[bytes, int]:
        cpu: Any = self.stage.guest.cpu
        x, sp = 8 * cpu._x, 8 * cpu._sp
        return context[x + 19 * 8 : x + 30 * 8], int.from_bytes(context[sp : sp + 8], "little")

    def key(self, state: State) -> tuple[object, ...]:
        """Equal for states with the same future."""
        parts: list[object] = [state.memory[0]]
        for number, task in enumerate(state.tasks):
            parts += [task.at, task.kcall, task.spun, task.blocked, task.results, task.held]
            if task.context is not None:
                registers, sp = self._key(task.context)
                parts += [registers, state.memory[1 + number][sp - self.stage.stacks[number] :]]
        return tuple(parts)

    # -- exploring ---------------------------------------------------------------------------------------------------

    def choices(self, state: State) -> list[tuple[str, int]]:
        """Who can move: whoever spins only where nobody else can, or has since he looked."""
        able = [n for n, t in enumerate(state.tasks) if t.at < len(self.scripts[n]) and not t.blocked]
        eager = [n for n in able if not state.tasks[n].spun] or able
        found = [(RUN, n) for n in eager]
        for n in self.kills:
            task = state.tasks[n]
            pending = state.memory[0][self._pending_at(n)]
            if task.at < len(self.scripts[n]) and not pending:
                found.append((KILL, n))
        return found

    def _pending_at(self, number: int) -> int:
        stage = self.stage
        return stage.tasks[number] - stage.lock + stage.guest.types.offsetof("task_struct", "sigkill_pending")

    def advance(self, state: State, choice: tuple[str, int]) -> State:
        """The state after one choice."""
        self._load(state)
        kind, number = choice
        tasks = list(state.tasks)
        if kind == KILL:
            self.stage.views[number].sigkill_pending = 1
            self.stage.wake(tasks, number, TASK_SIGNALED)
        else:
            tasks[number] = self.stage.step(number, tasks[number], self.scripts[number])
            kcall = tasks[number].kcall
            if kcall is not None and kcall[0] in WAKES:
                states = TASK_NORMAL if kcall[0] == "wake_up_process" else kcall[1][1]
                self.stage.wake(tasks, self.stage.tasks.index(kcall[1][0]), states)
            for other in range(len(tasks)):
                if other != number and tasks[other].spun:
                    tasks[other] = replace(tasks[other], spun=False)
        return State(self._save(), tuple(tasks))

    def run(self) -> Outcome:
        """Explore everything."""
        outcome = Outcome()
        seen = {self.key(self.start)}
        pending: list[tuple[State, tuple[tuple[str, int], ...]]] = [(self.start, ())]
        while pending:
            state, path = pending.pop()
            outcome.states += 1
            assert outcome.states < self.max_states, "more states than this script was meant to have"
            choices = self.choices(state)
            if not any(kind == RUN for kind, _ in choices):
                blocked = tuple(n for n, t in enumerate(state.tasks) if t.blocked)
                word = int.from_bytes(state.memory[0][:8], "little")
                outcome.ends.add((tuple(t.results for t in state.tasks), blocked, word))
            for choice in choices:
                after, longer = self.advance(state, choice), (*path, choice)
                outcome.edges += 1
                if self.check:
                    self.check(after)
                if self.lockstep:
                    self.lockstep(longer, after)
                key = self.key(after)
                if key not in seen:
                    seen.add(key)
                    pending.append((after, longer))
        return outcome


def mutual_exclusion(state: State) -> None:
    """No writer beside another holder."""
    held = [h for task in state.tasks for h in task.held if h]
    assert "W" not in held or len(held) == 1, f"held at once: {held}"
