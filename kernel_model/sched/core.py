"""The scheduler: which task goes next, and what puts one to sleep or wakes it.

Mirrors kernel/sched/core.c (schedule, try_to_wake_up) as far as it shows: states, on_cpu, run queues of one CPU each.
Leaves out priorities, classes and load balancing (a task stays on the CPU it was created on). In the kernel a task
goes on until it blocks, ends, or reaches a decision point where the oracle prefers another; in user mode the tick, too,
is such a point, and who has used up a tick goes behind everybody else.

On one host thread only one vCPU moves at a time, but each has its current task: a task that was stopped at a decision
point for the other vCPU's sake is still on its CPU (on_cpu), as optimistic spinning wants to know. It can be preempted
there by another task of its own CPU where its preempt_count is zero, but not in user mode, where only an interrupt
would let the other one in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernel_model.errors import BudgetExceededError
from kernel_model.kcall import kcall
from kernel_model.sched.oracle import Decision, History, Oracle, RunUntilBlock, keep_going
from kernel_model.sched.requests import Block, Point, Sleeping
from kernel_model.sched.task import (
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_WAKEKILL,
    TIF_NEED_RESCHED,
    TIF_SIGPENDING,
    Task,
    TaskExit,
    Tasks,
)

DECISION_NS = 1_000  # virtual time that passes from one decision point to the next
TICK_NS = 1_000_000  # CONFIG_HZ is 1000
_LIVELOCK_ROUNDS = 100_000  # decisions in a row at which nothing but spinning happened
_OTHERS_FIRST = frozenset({"spin", "yield", "tick", "preempt"})  # points where who has come to them is chosen last


class Clock(Protocol):
    """Virtual time in nanoseconds."""

    now: int


class Scheduler:
    """Tasks that can run, who is current where, and the decisions that were made."""

    def __init__(self, tasks: Tasks, clock: Clock, current: Callable[[], Task], nr_cpus: int) -> None:
        self._tasks = tasks
        self._clock = clock
        self._current = current
        self.on_cpu: list[Task | None] = [None] * nr_cpus
        self.run_list: list[Task] = []  # every task that was started and has not ended, by pid
        self.oracle: Oracle = RunUntilBlock()
        self.history = History()
        self.max_decisions = 1_000_000
        self.max_ticks = 10_000  # in one run: user code that needs more runs wild
        self.ticks = 0
        self._spins = 0
        self.chosen: Task | None = None  # what a decision inside a kcall has fixed for the next step
        self.horizon: int | None = None  # virtual ns beyond which nobody's timer is waited for
        self._deadlines: dict[int, int] = {}  # of schedule_timeout(), by task
        self.on_exit: list[Callable[[Task], None]] = []
        self.smp_send_reschedule: Callable[[int], None] = lambda cpu: None  # makes another CPU enter the kernel
        self.group_exit: dict[int, TaskExit] = {}  # by tgid: what ended the whole process

    # -- tasks come and go -------------------------------------------------------------------------------------------

    def start(self, task: Task, cpu: int) -> None:
        """wake_up_new_task(): `task` may run, on `cpu` only."""
        task.cpu = task.view.cpu = cpu
        task.state = TASK_RUNNING
        self.run_list.append(task)
        self.run_list.sort(key=lambda t: t.pid)

    def idlest_cpu(self) -> int:
        """The CPU with the fewest tasks, the lower number among equals."""
        load = [0] * len(self.on_cpu)
        for task in self.run_list:
            load[task.cpu] += 1
        return load.index(min(load))

    def ended(self, task: Task, exit_: TaskExit) -> None:
        """do_exit(): the task will not run again. With the whole group ending, its other threads are killed."""
        task.exit = exit_
        self._deadlines.pop(task.address, None)
        task.state = TASK_DEAD
        task.view.on_cpu = 0
        task.frames.clear()
        self.run_list.remove(task)
        whole = exit_.group and not exit_.oops  # make_task_dead() ends this task alone
        if whole:
            self.group_exit.setdefault(task.tgid, exit_)
        for function in self.on_exit:
            function(task)
        if whole:
            for other in self._tasks.group(task):
                if other.exit is None and other is not task:
                    self.kill(other)

    def kill(self, task: Task) -> None:
        """SIGKILL: whoever waits killably wakes up, everyone else dies on the way back to user mode."""
        task.view.sigkill_pending = True
        self.signal_wake_up(task, fatal=True)

    def signal_wake_up(self, task: Task, *, fatal: bool) -> None:
        """void signal_wake_up(struct task_struct *t, bool fatal): it has a signal to look at. Where it does not sleep,
        kick_process(): if it is current on a CPU, that one enters the kernel."""
        task.view.thread_info_flags |= TIF_SIGPENDING
        if not task.blocked:
            if self.on_cpu[task.cpu] is task:
                self.smp_send_reschedule(task.cpu)
        elif task.state & (TASK_INTERRUPTIBLE | (TASK_WAKEKILL if fatal else 0)):
            self._wake(task)

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _can_run(self, task: Task) -> bool:
        """A task that is not blocked, and whose CPU's current task may be preempted by it."""
        there = self.on_cpu[task.cpu]
        if there is None or there is task or there.blocked or there.exit is not None:
            return True
        return not there.in_user and int(there.view.preempt_count) == 0

    def _options(self) -> list[Task]:
        runnable = [t for t in self.run_list if not t.blocked and self._can_run(t)]
        eager = [t for t in runnable if not t.spinning]
        if eager or not runnable:
            self._spins = 0
            return eager
        self._spins += 1
        if self._spins > _LIVELOCK_ROUNDS:
            names = ", ".join(f"{t.comm}/{t.pid}" for t in runnable)
            raise BudgetExceededError(f"livelock: {names} spin, and nothing will let them go on")
        for task in runnable:
            task.spinning = False
        return runnable

    def _decide(self, current: Task | None, kind: str) -> Task | None:
        """The task that goes next, None where none can."""
        options = self._options()
        if not options:
            return None
        self._clock.now += DECISION_NS
        chosen = 0
        if len(options) > 1:
            chosen = self.oracle.choose(options, current, kind)
            decision = Decision(kind, tuple([t.pid for t in options]), chosen, keep_going(options, current),
                                current.pid if current is not None else -1)
            self.history.decisions.append(decision)
            if len(self.history.decisions) > self.max_decisions:
                raise BudgetExceededError(f"the budget of {self.max_decisions} decisions is used up")
        for task in self.run_list:
            if task is not options[chosen]:
                task.spinning = False
        return options[chosen]

    def stays(self, task: Task, kind: str) -> bool:
        """A task has reached a decision point: may it go on at once? Otherwise `pick` knows who goes next."""
        task.spinning = kind in _OTHERS_FIRST
        chosen = self._decide(task, kind)
        self.chosen = chosen if chosen is not task else None
        return chosen is task

    def blocks(self, task: Task) -> bool:
        """schedule() with a state set: False where a wake-up or a signal came before it."""
        if task.state == TASK_RUNNING:
            return False
        if self._signal_pending_state(task):
            task.state = TASK_RUNNING
            return False
        task.blocked = True
        task.view.on_cpu = 0
        task.view.nvcsw += 1
        self.chosen = None
        return True

    @staticmethod
    def _signal_pending_state(task: Task) -> bool:
        """signal_pending_state(): any signal ends an interruptible sleep, a fatal one a killable sleep too."""
        if task.state & TASK_INTERRUPTIBLE and task.view.thread_info_flags & TIF_SIGPENDING:
            return True
        return bool(task.state & (TASK_INTERRUPTIBLE | TASK_WAKEKILL) and task.view.sigkill_pending)

    def pick(self, last: Task | None) -> Task | None:
        """The task that goes next after `last` blocked, ended or was stopped; None where no task can move."""
        fixed, self.chosen = self.chosen, None
        if fixed is not None:
            return fixed
        kind = "exit" if last is None or last.exit is not None else "block"
        while True:
            task = self._decide(last, kind)
            if task is not None or not self._expire_next():
                return task

    def _expire_next(self) -> bool:
        """Nothing moves: let the time pass to the next timeout. False where there is none."""
        sleepers = [t for t in self.run_list if t.blocked and t.wake_time is not None]
        if not sleepers:
            return False
        first = min(sleepers, key=lambda t: (t.wake_time or 0, t.pid))
        if self.horizon is not None and (first.wake_time or 0) > self.horizon:
            return False
        self._clock.now = max(self._clock.now, first.wake_time or 0)
        self._wake(first)
        return True

    def _expire_due(self) -> None:
        """Whose timeout is over wakes up, the earliest first."""
        due = [t for t in self.run_list if t.blocked and t.wake_time is not None and t.wake_time <= self._clock.now]
        for task in sorted(due, key=lambda t: (t.wake_time or 0, t.pid)):
            self._wake(task)

    # -- waking ------------------------------------------------------------------------------------------------------

    def _wake(self, task: Task) -> None:
        task.state = TASK_RUNNING
        task.blocked = False
        task.wake_time = None

    def wake(self, task: Task, states: int) -> bool:
        """ttwu_state_match() and what follows: False where the task's state is none of `states`."""
        if not task.state & states:
            return False
        self._wake(task)
        return True

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def context_switch(self, prev: int) -> Sleeping:
        """struct rq *context_switch(): off the CPU where the task's state says so; before that, a decision point: a
        wake-up may come between the setting of a state and here."""
        task = self._tasks.by_address[prev]
        flags = task.view.thread_info_flags
        if flags & TIF_NEED_RESCHED:
            task.view.thread_info_flags = flags & ~TIF_NEED_RESCHED
        if task.state == TASK_RUNNING:
            yield Point("preempt" if flags & TIF_NEED_RESCHED else "resched")
        else:
            yield Point("sleep")
            yield Block()

    @kcall
    def sched_tick(self) -> Sleeping:
        """void sched_tick(void): user mode has been interrupted after a tick: timeouts expire, other CPUs go first, and
        where somebody waits for this one its task gives it up. BudgetExceededError where there is no end of it."""
        task = self._current()
        self._clock.now += TICK_NS
        self.ticks += 1
        if self.ticks > self.max_ticks:
            raise BudgetExceededError(f"{task.comm}/{task.pid}: the guest runs wild: {self.max_ticks} ticks of user "
                                      "code, and no end")
        self._expire_due()
        yield Point("tick")
        if any(t is not task and t.cpu == task.cpu and not t.blocked for t in self.run_list):
            task.view.thread_info_flags |= TIF_NEED_RESCHED

    @kcall
    def start_sleep_timer(self, ns: int) -> None:
        """The current task is woken in `ns` of virtual time at the latest: schedule_timeout()'s timer."""
        task = self._current()
        task.wake_time = self._deadlines[task.address] = self._clock.now + ns

    @kcall
    def stop_sleep_timer(self) -> int:
        """It is awake: the time that was left, in ns."""
        task = self._current()
        task.wake_time = None
        return max(self._deadlines.pop(task.address) - self._clock.now, 0)

    @kcall
    def try_to_wake_up(self, p: int, state: int) -> Sleeping:
        """int try_to_wake_up(struct task_struct *p, unsigned int state): a decision point where it woke somebody."""
        if not self.wake(self._tasks.by_address[p], state):
            return False
        yield Point("wake")
        return True

    @kcall
    def cpu_relax(self) -> Sleeping:
        """void cpu_relax(void): once around a loop that waits for another CPU."""
        yield Point("spin")

    @kcall
    def sched_point(self) -> Sleeping:
        """Something others wait for has changed, or is about to be tried."""
        yield Point("point")

    @kcall
    def do_sched_yield(self) -> Sleeping:
        """void do_sched_yield(void): others go first where there are any."""
        yield Point("yield")

    @kcall
    def sched_clock(self) -> int:
        """u64 sched_clock(void): virtual nanoseconds."""
        return self._clock.now
