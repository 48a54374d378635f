"""An rw_semaphore as its rules describe it: who holds it, who waits, who asked for it. No bits, no atomics.

Written from the rules, not from the guest's C: the count word follows from the state, instead of being it. A call is
a generator that stops where the guest's decision points are: "point", "spin", "sleep", ("wake", task).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

EINTR = (1 << 32) - 4
WAIT_TIMEOUT = 4_000_000  # ns
MAX_READERS_WAKEUP = 256
UNINTERRUPTIBLE, KILLABLE = 0x2, 0x102  # task states
Stop = str | tuple[str, int]
Steps = Generator[Stop, None, int]


@dataclass(eq=False, slots=True)
class Waiter:
    task: int
    reader: bool
    deadline: int
    asked: bool = False  # for the lock to be handed over
    granted: bool = False


@dataclass(slots=True)
class Model:
    """`state[t]`: how a task has announced to sleep, 0 if not. `awake[t]`: it is on its CPU."""

    tasks: int
    clock_step: int
    writer: int | None = None
    readers: list[int] = field(default_factory=list)
    arriving: int = 0  # readers that have knocked and are not yet in the queue
    queue: list[Waiter] = field(default_factory=list)
    handoff: bool = False
    owner: int | None = None
    reader_owned: bool = False
    nonspinnable: bool = False
    spinner: int | None = None
    now: int = 0
    killed: set[int] = field(default_factory=set)
    to_wake: set[int] = field(default_factory=set)
    state: list[int] = field(default_factory=list)
    awake: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state, self.awake = [0] * self.tasks, [True] * self.tasks

    def clock(self) -> int:
        self.now += self.clock_step
        return self.now

    @property
    def inside(self) -> int:
        """Readers in the count."""
        return len(self.readers) + self.arriving

    def count(self) -> int:
        """The word that the lock must have."""
        return self.inside << 8 | (self.writer is not None) | bool(self.queue) << 1 | self.handoff << 2

    # -- readers -----------------------------------------------------------------------------------------------------

    def _enter(self, task: int) -> None:
        self.readers.append(task)
        self._name(task)

    def _name(self, task: int) -> None:
        self.owner, self.reader_owned = task, True

    def down_read(self, task: int, killable: bool = False) -> Steps:
        yield "point"
        if self.writer is None and not self.queue:
            self._enter(task)
            return 0
        alone = self.inside == 0
        behind_readers = self.reader_owned and not alone and self.writer is None
        if not behind_readers and self.writer is None and not self.handoff:
            self._enter(task)
            if alone and self.queue:
                yield from self._wake_all(self._choose("joined"))
            return 0
        self.arriving += 1
        yield "point"
        deadline = self.clock() + WAIT_TIMEOUT
        self.arriving -= 1
        if not self.queue and self.writer is None:
            self._enter(task)
            return 0
        waiter = Waiter(task, True, deadline)
        self.queue.append(waiter)
        yield from self._wake_all(self._newcomer())
        self.state[task] = how = KILLABLE if killable else UNINTERRUPTIBLE
        while not waiter.granted:
            if killable and task in self.killed:
                return (yield from self._give_up(waiter))
            yield from self._sleep(task, how)
        self.state[task] = 0
        return 0

    def down_read_killable(self, task: int) -> Steps:
        return self.down_read(task, killable=True)

    def down_read_trylock(self, task: int) -> Steps:
        yield "point"
        if self.writer is not None or self.queue:
            return 0
        self._enter(task)
        return 1

    def up_read(self, task: int) -> Steps:
        if self.owner == task:
            self.owner = None
        self.readers.remove(task)
        last = self.inside == 0 and self.writer is None and bool(self.queue)
        yield "point"
        if last:
            self.nonspinnable = False
            yield from self._wake_queue("any")
        return 0

    # -- writers -----------------------------------------------------------------------------------------------------

    def _own(self, task: int) -> None:
        self.writer = self.owner = task
        self.reader_owned = self.nonspinnable = False

    def down_write(self, task: int, killable: bool = False) -> Steps:
        yield "point"
        if self.count() == 0:
            self._own(task)
            return 0
        yield "point"
        if self._may_spin(task) and (yield from self._spin(task)):
            return 0
        waiter = Waiter(task, False, self.clock() + WAIT_TIMEOUT)
        self.queue.append(waiter)
        if self.queue[0] is not waiter:
            yield from self._wake_all(self._newcomer())
        self.state[task] = how = KILLABLE if killable else UNINTERRUPTIBLE
        while not self._take(waiter):
            if killable and task in self.killed:
                self.state[task] = 0
                return (yield from self._give_up(waiter))
            if not waiter.asked or (yield from self._watch(task)) != "free":
                yield from self._sleep(task, how)
            else:
                yield "spin"
        self.state[task] = 0
        return 0

    def down_write_killable(self, task: int) -> Steps:
        return self.down_write(task, killable=True)

    def down_write_trylock(self, task: int) -> Steps:
        yield "point"
        if self.count():
            return 0
        self._own(task)
        return 1

    def _take(self, waiter: Waiter) -> bool:
        if self.handoff and self.queue[0].asked and self.queue[0] is not waiter:
            return False
        if self.writer is not None or self.inside:
            if not self.handoff and self.clock() > waiter.deadline:
                self.handoff = self.queue[0].asked = True
            return False
        self.queue.remove(waiter)
        self.handoff = False
        self._own(waiter.task)
        return True

    def up_write(self, task: int) -> Steps:
        waited = bool(self.queue)
        self.writer = self.owner = None
        self.reader_owned = self.nonspinnable = False
        yield "point"
        if waited:
            yield from self._wake_queue("any")
        return 0

    def downgrade_write(self, task: int) -> Steps:
        waited = bool(self.queue)
        self.writer = None
        self._enter(task)
        yield "point"
        if waited:
            yield from self._wake_queue("joined")
        return 0

    # -- spinning ----------------------------------------------------------------------------------------------------

    def _kind(self) -> str:
        if self.nonspinnable:
            return "stop"
        return "readers" if self.reader_owned else "free" if self.owner is None else "writer"

    def _may_spin(self, task: int) -> bool:
        return not self.nonspinnable and (self.owner is None or self.reader_owned
                                         or (self.awake[self.owner] and self.owner != task))

    def _watch(self, task: int) -> Generator[Stop, None, str]:
        """Wait while the same writer has it and runs; what it is then."""
        kind, who = self._kind(), self.owner
        if kind != "writer":
            return kind
        assert who is not None
        while self._kind() == "writer" and self.owner == who:
            if not self.awake[who] or who == task:
                return "stop"
            yield "spin"
        return self._kind()

    def _spin(self, task: int) -> Generator[Stop, None, bool]:
        while self.spinner is not None:
            yield "spin"
        self.spinner = task
        before, end, got = "free", 0, False
        while (kind := (yield from self._watch(task))) != "stop":
            if self.writer is None and not self.inside and not self.handoff:
                self._own(task)
                got = True
                break
            if kind == "readers":
                if before != "readers":
                    end = self.clock() + (20 + min(self.inside, 30)) * 500
                elif self.clock() > end:
                    self.nonspinnable = True
                    break
            before = kind
            yield "point" if kind == "readers" else "spin"
        self.spinner = None
        return got

    # -- the queue ---------------------------------------------------------------------------------------------------

    def _choose(self, how: str) -> list[int]:
        """Grant to readers or choose the first writer; how: "any", "readers" only, or the caller has "joined" them."""
        first = self.queue[0]
        if not first.reader:
            return [first.task] if how == "any" else []
        if how != "joined":
            if self.writer is not None:
                if self.clock() > first.deadline:
                    self.handoff = first.asked = True
                return []
            self._name(first.task)
        granted = [w for w in self.queue if w.reader][:MAX_READERS_WAKEUP]
        self.queue = [w for w in self.queue if w not in granted]
        self.handoff = False
        for waiter in granted:
            waiter.granted = True
            self.readers.append(waiter.task)
        return [w.task for w in granted]

    def _newcomer(self) -> list[int]:
        if self.writer is not None:
            return []
        if self.inside:
            return self._choose("readers")
        self.nonspinnable = False
        return self._choose("any")

    def _wake_queue(self, how: str) -> Generator[Stop, None, None]:
        if self.queue:
            yield from self._wake_all(self._choose(how))

    def _wake_all(self, tasks: list[int]) -> Generator[Stop, None, None]:
        mine = [t for t in tasks if t not in self.to_wake]  # the others somebody else is about to wake
        self.to_wake.update(mine)
        for task in mine:
            self.to_wake.discard(task)
            self.wake(task)
            yield ("wake", task)

    def wake(self, task: int) -> None:
        self.state[task], self.awake[task] = 0, True

    def _give_up(self, waiter: Waiter) -> Steps:
        first = self.queue[0] is waiter
        self.queue.remove(waiter)
        chosen: list[int] = []
        if not self.queue:
            self.handoff = False
        elif first:
            chosen = self._choose("any")
        yield from self._wake_all(chosen)
        self.state[waiter.task] = 0
        return EINTR

    def _sleep(self, task: int, how: int) -> Generator[Stop, None, None]:
        if task in self.killed and self.state[task] == KILLABLE:
            self.state[task] = 0
        self.awake[task] = not self.state[task]
        yield "sleep"
        self.state[task] = how

    def kill(self, task: int) -> None:
        """SIGKILL."""
        self.killed.add(task)
        if self.state[task] == KILLABLE:
            self.wake(task)
