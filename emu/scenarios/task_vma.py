"""mmap_lock taken twice: a BPF program walks a task's VMAs and copies from a page that is not there.

The user program is images/user/task_vma.c, the BPF program sleep_in_iter of images/bpf/task_vma.bpf.c. With the
iterator of Linux 7.0 (and 6.18.26) mmap_lock is held for reading from bpf_iter_task_vma_new() to _destroy(); the fault
of bpf_copy_from_user() reads it again, and a writer that queued in between makes that a deadlock. Linux kernel commit
4cbee026db54 and its series (in v7.1) give the program a copy of each VMA and hold nothing; the series
20260226161500.775715-1, never merged, let the verifier forbid the fault.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from emu.explore.oracles import STRATEGIES, Replay, Stage, Steer
from emu.explore.token import Token, looks_like_token, parse
from emu.image_files import IMAGES
from emu.kernel import Kernel, boot
from kernel_model.errors import KemuError
from kernel_model.locking.waitfor import Edge, WaitFor
from kernel_model.profiles import Profile
from kernel_model.sched.oracle import History, Oracle, RunUntilBlock
from kernel_model.sched.task import Task
from kernel_model.types import View

NAME = "task-vma"
SUMMARY = "a BPF program faults while its task_vma iterator may hold mmap_lock, and a writer comes in between"
OBJECT = IMAGES / "bpf" / "task_vma.bpf.o"
RELEASING_OBJECT = IMAGES / "bpf" / "task_vma_release.bpf.o"
COMM = "dl"
SCHEDULES = ("default", "queued", "no-writer", "spinning", *STRATEGIES)
RWSEM_READER_BIAS, RWSEM_OWNER_FLAGS_MASK = 0x100, 0x3
_M64 = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """One schedule of the scenario."""

    outcome: str  # "completes", "busy" (the iterator was refused mmap_lock), "deadlock", "stuck", "failed"
    reason: str
    token: Token
    seen: int  # VMAs that the program saw
    copied: int  # pages it copied from
    touched: int  # pages that the third thread touched without mmap_lock
    cycle: tuple[str, ...] = ()  # known where lockdep knows who holds what

    @property
    def decisions(self) -> int:
        """How many choices there were."""
        return self.token.decisions

    @property
    def deviations(self) -> tuple[tuple[int, int], ...]:
        """Those that left run-until-block."""
        return self.token.deviations


class Experiment:
    """The scenario on one booted kernel, to be run with one oracle after the other."""

    def __init__(
        self, arch: str, profile: str | Profile, engine: str = "jit", *, lockdep: bool = False, prove: bool = False,
        release: bool = False,
    ) -> None:
        self.kernel: Kernel = boot(arch, profile, lockdep=lockdep or prove)
        if lockdep and not prove:
            self.kernel.lockdep.prove_locking = False  # held locks are known, nothing is reported
        loaded = self.kernel.load(RELEASING_OBJECT if release else OBJECT, engine)
        self.loaded = loaded
        self.prog = loaded.prog("release_then_sleep" if release else "sleep_in_iter")
        self.on_stuck: Callable[[Task], None] = lambda task: None
        self.splat: list[str] = []  # what the kernel logged while the last run went on

    def __call__(self, oracle: Oracle) -> ScheduleRun:
        """Run it once. Whatever is left stuck is killed afterwards, as `kill -9` would."""
        kernel = self.kernel
        processes, sched = kernel.processes, kernel.processes.sched
        task, image = kernel.exec("task_vma", COMM)
        attr = struct.pack("<II", self.prog.fd, 0).ljust(128, b"\0")
        processes.poke(task, image, {"attr": attr})
        for name in ("vmas_seen", "copied", "errors"):
            self.loaded.write(name, bytes(4))
        self.loaded.write("target", image.addresses["target"].to_bytes(8, "little"))
        sched.history, sched.oracle = History(), oracle
        try:
            processes.start_user(task, image)
            before = len(kernel.console.lines)
            moved = processes.run_group(task)
            self.splat = kernel.console.lines[before:]
            history = sched.history
            cycle = self._cycle(task) if not moved else []
            counts = self._counts()
            touched = processes.peek(task, image, "touched", 4)
            result = processes.peek(task, image, "result", 8)
            if not moved:
                self.on_stuck(task)
        finally:
            sched.oracle = RunUntilBlock()
            processes.kill(task)
        outcome, reason = self._outcome(moved, counts, int.from_bytes(result, "little", signed=True))
        token = Token(NAME, kernel.arch.name, kernel.profile.name, len(history.decisions), tuple(history.deviations()))
        return ScheduleRun(outcome, reason, token, counts[0], counts[1], int.from_bytes(touched, "little"),
                           tuple(sentence(edge) for edge in cycle))

    def wait_for(self, task: Task) -> WaitFor:
        """The wait-for graph of a process's threads."""
        kernel = self.kernel
        return WaitFor(kernel.tasks.group(task), kernel.lockdep.held, kernel.types, kernel.space)

    def _cycle(self, task: Task) -> list[Edge]:
        return self.wait_for(task).cycle()

    def _counts(self) -> tuple[int, int, int]:
        seen, copied, errors = (int.from_bytes(self.loaded.read(name), "little")
                                for name in ("vmas_seen", "copied", "errors"))
        return seen, copied, errors

    @staticmethod
    def _outcome(moved: bool, counts: tuple[int, int, int], result: int) -> tuple[str, str]:
        seen, copied, errors = counts
        if not moved:
            return "deadlock", "mmap_lock is read twice with a writer queued in between"
        if result:
            return "failed", f"bpf(2) gave {result}"
        if not seen:
            return "busy", "mmap_read_trylock() refused: nothing iterated"
        if errors:
            return "failed", f"bpf_copy_from_user() failed {errors} times"
        return "completes", f"{seen} VMAs seen, {copied} page{'s' * (copied != 1)} copied"

    # -- schedules ---------------------------------------------------------------------------------------------------

    def oracle(self, schedule: str, seed: int) -> Oracle:
        """The oracle of a named schedule, of a strategy with `seed`, or of a replay token."""
        if schedule in STRATEGIES:
            return STRATEGIES[schedule](seed)
        if schedule in SCHEDULES:
            return Steer(self._stages(schedule))
        if looks_like_token(schedule):
            token = parse(schedule)
            token.check(NAME, self.kernel.arch.name, self.kernel.profile.name)
            return Replay(dict(token.deviations))
        raise KemuError(f"{NAME}: no schedule {schedule!r}: known are {', '.join(SCHEDULES)}, or a replay token")

    def _stages(self, schedule: str) -> list[Stage]:
        runner, mapper, toucher = (self._thread(number) for number in (1, 2, 0))
        begin = Stage(toucher, lambda: self._find(mapper, lambda t: True) or self._gone(2))
        in_iterator = Stage(runner, lambda: self._iterates(runner))
        if schedule == "no-writer":
            return [begin, Stage(runner, lambda: self._gone(1))]
        if schedule == "spinning":
            return [begin, in_iterator, Stage(mapper, self._somebody_spins), Stage(runner, lambda: self._gone(1))]
        if schedule == "queued":
            queued = Stage(mapper, lambda: self._find(mapper, lambda t: t.blocked) or self._gone(2))
            stuck = Stage(runner, lambda: self._find(runner, lambda t: t.blocked) or self._gone(1))
            return [begin, in_iterator, queued, stuck, Stage(toucher, lambda: self._find(toucher, lambda t: t.blocked)),
                    Stage(runner, lambda: self._gone(1))]
        return []

    @staticmethod
    def _thread(number: int) -> Callable[[Task], bool]:
        """The process's thread of that number, in the order of their creation."""
        return lambda task: task.pid == task.tgid + number

    def _find(self, who: Callable[[Task], bool], test: Callable[[Task], bool]) -> bool:
        return any(who(t) and test(t) for t in self.kernel.processes.sched.run_list)

    def _gone(self, number: int) -> bool:
        """The thread has run, and runs no more."""
        who = self._thread(number)
        return any(who(t) and t.exit is not None for t in self.kernel.tasks.by_address.values())

    def _mmap_lock(self) -> View:
        semaphore: View = self.kernel.types.view("mm_struct", self.kernel.processes.sched.run_list[0].view.mm).mmap_lock
        return semaphore

    def _iterates(self, runner: Callable[[Task], bool]) -> bool:
        """The thread holds mmap_lock for reading, or has ended."""
        semaphore = self._mmap_lock()
        owner = semaphore.owner.counter & _M64 & ~RWSEM_OWNER_FLAGS_MASK
        held = semaphore.count.counter >= RWSEM_READER_BIAS
        return held and self._find(runner, lambda t: t.address == owner) or self._gone(1)

    def _somebody_spins(self) -> bool:
        return bool(self._mmap_lock().osq.tail.counter) or self._gone(2)


def sentence(edge: Edge) -> str:
    """An edge of the wait-for graph in words."""
    wants = f"{edge.lock.name} {edge.lock.mode}".rstrip()
    return f"{edge.waiter.comm}/{edge.waiter.pid} wants {wants}: {edge.other.comm}/{edge.other.pid} {edge.why}"
