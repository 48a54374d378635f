"""Queues, actions and who is woken, on tasks without a machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kernel_model.errors import NotModelledError
from kernel_model.kcall import collect
from kernel_model.mm.signals import CLD_EXITED, CLD_KILLED, SEGV_ACCERR, SI_KERNEL, SI_USER, SigInfo
from kernel_model.sched.core import Scheduler
from kernel_model.sched.sighand import SIG_DFL, SIG_IGN, SigAction, SigHand, SignalStruct, SigPending, bit
from kernel_model.sched.signal import Signals, copy_signals, unhandled_signal
from kernel_model.sched.task import TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE, TASK_WAKEKILL, TIF_SIGPENDING, TaskExit

HUP, ILL, ABRT, BUS, KILL, USR1, SEGV, TERM, CHLD, CONT, TSTP = 1, 4, 6, 7, 9, 10, 11, 15, 17, 18, 20
HANDLER = SigAction(0x1000)


class FakeTask:
    def __init__(self, pid, tgid, signal, sighand):
        self.pid, self.tgid, self.comm, self.uid = pid, tgid, f"t{pid}", 0
        self.address = 0x1000 * pid
        self.view = SimpleNamespace(
            cpu=0, on_cpu=0, preempt_count=0, sigkill_pending=False, thread_info_flags=0, nvcsw=0, blocked=0,
            sas_ss_sp=0, sas_ss_size=0, sas_ss_flags=0,
        )
        self.state, self.cpu, self.frames, self.exit, self.wake_time = 0, 0, [], None, None
        self.blocked = self.spinning = False
        self.exit_signal = CHLD
        self.signal, self.sighand, self.pending = signal, sighand, SigPending()

    @property
    def told(self):
        return bool(self.view.thread_info_flags & TIF_SIGPENDING)


class World:
    """A process of `threads` threads, pids from 1 on, and another one, pid 9."""

    def __init__(self, threads=3):
        signal, sighand = SignalStruct(), SigHand()
        self.threads = [FakeTask(pid, 1, signal, sighand) for pid in range(1, threads + 1)]
        self.other = FakeTask(9, 9, SignalStruct(), SigHand())
        self.tasks = [*self.threads, self.other]
        registry = SimpleNamespace(
            by_address={t.address: t for t in self.tasks},
            group=lambda task: [t for t in self.tasks if t.tgid == task.tgid],
        )
        self.sched = Scheduler(registry, SimpleNamespace(now=0), lambda: self.threads[0], 2)
        for task in self.tasks:
            self.sched.start(task, 0)
        self.current = self.threads[0]
        self.filled = []
        self.signals = Signals(registry, self.sched, lambda: self.current, None, None)
        self.signals._fill = lambda ksig, info, action: self.filled.append(info)

    def send(self, sig, task=None, group=True, code=SI_USER):
        self.signals.send(SigInfo(sig, code, pid=9), task or self.threads[0], group=group)

    def handle(self, sig, flags=0):
        self.threads[0].sighand[sig] = SigAction(0x1000, flags)

    def get(self, task=None):
        """What get_signal() gives a task: the number of the signal, None, or how it ends."""
        self.current = task or self.threads[0]
        try:
            return self.filled[-1].signo if self.signals.get_signal(0) else None
        except TaskExit as ended:
            return ended


@pytest.fixture
def world():
    return World()


def test_lowest_first_those_of_the_thread_before_those_of_the_process(world):
    for sig in (HUP, USR1, TERM, 40):
        world.handle(sig)
    world.send(TERM, group=False)
    world.send(USR1)
    world.send(HUP)
    assert [world.get() for _ in range(4)] == [TERM, HUP, USR1, None]
    assert not world.threads[0].told


def test_what_it_caused_itself_comes_before_everything(world):
    for sig in (HUP, SEGV, BUS):
        world.handle(sig)
    world.send(HUP, group=False)
    world.signals.force(SigInfo(SEGV, SEGV_ACCERR, 8))
    world.signals.force(SigInfo(BUS, 2, 16))
    assert [world.get() for _ in range(3)] == [SEGV, BUS, HUP], "in the order in which they came"


def test_one_of_a_kind_but_for_real_time(world):
    for sig in (USR1, 33):
        world.handle(sig)
    for _ in range(3):
        world.send(USR1)
        world.send(33)
    assert [world.get() for _ in range(5)] == [USR1, 33, 33, 33, None]


@pytest.mark.parametrize("state", [TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE, TASK_UNINTERRUPTIBLE | TASK_WAKEKILL])
def test_who_is_woken(world, state):
    world.handle(USR1)
    sleeper = world.threads[0]
    sleeper.state = state
    assert world.sched.blocks(sleeper)
    world.send(USR1)
    assert sleeper.told and sleeper.blocked == (state != TASK_INTERRUPTIBLE)
    world.send(KILL)
    assert sleeper.blocked == (state == TASK_UNINTERRUPTIBLE)
    sleeper.state = TASK_UNINTERRUPTIBLE | TASK_WAKEKILL
    assert not world.sched.blocks(sleeper), "it has to die"


def test_an_interruptible_sleep_does_not_begin_with_a_signal_pending(world):
    world.handle(USR1)
    world.send(USR1)
    task = world.threads[0]
    task.state = TASK_UNINTERRUPTIBLE | TASK_WAKEKILL
    assert world.sched.blocks(task), "a killable one does: nothing fatal waits"
    task.state, task.blocked = TASK_INTERRUPTIBLE, False
    assert not world.sched.blocks(task)


def test_a_fatal_signal_takes_the_whole_process_at_once(world):
    world.send(TERM, world.threads[1], group=False)
    assert all(t.view.sigkill_pending and t.told for t in world.threads)
    assert not world.other.told
    assert world.sched.group_exit[1].signal == SigInfo(TERM, SI_USER, pid=9)
    ended = world.get(world.threads[2])
    assert ended.signal.signo == KILL and not ended.group


def test_one_that_dumps_core_ends_who_takes_it(world):
    world.send(ABRT)
    assert [t.told for t in world.threads] == [True, False, False] and not world.sched.group_exit
    ended = world.get()
    assert (ended.code, ended.signal.signo, ended.group) == (ABRT, ABRT, True)


def test_a_process_wide_signal_goes_to_one_that_does_not_block_it(world):
    world.handle(USR1)
    world.threads[0].view.blocked = world.threads[1].view.blocked = bit(USR1)
    world.send(USR1)
    assert [t.told for t in world.threads] == [False, False, True]
    assert world.get(world.threads[2]) == USR1


def test_one_that_all_block_waits_for_the_first_that_unblocks_it(world):
    world.handle(USR1)
    for task in world.threads:
        task.view.blocked = bit(USR1)
    world.send(USR1)
    assert not any(t.told for t in world.threads)
    world.current = world.threads[1]
    collect([world.signals])["__set_current_blocked"](0)
    assert world.threads[1].told and world.get(world.threads[1]) == USR1


def test_ignored_signals_are_lost_unless_they_are_blocked(world):
    task = world.threads[0]
    world.send(CHLD)
    task.sighand[USR1] = SigAction(SIG_IGN)
    world.send(USR1)
    assert not world.signals.waiting(task)
    task.view.blocked = bit(USR1) | bit(CHLD)
    world.send(USR1)
    world.send(CHLD)
    assert world.signals.waiting(task) == bit(USR1) | bit(CHLD) and not task.told


def test_stop_and_continue_cancel_each_other(world):
    world.handle(CONT)
    world.send(TSTP)
    world.send(CONT)
    assert world.get() == CONT and world.get() is None
    world.send(TSTP)
    with pytest.raises(NotModelledError, match="stopping a process"):
        world.get()


def test_a_forced_signal_kills_where_it_is_blocked_or_ignored(world):
    task = world.threads[0]
    for prepare in ("block", "ignore", "default"):
        task.sighand[SEGV] = SigAction(SIG_IGN) if prepare == "ignore" else HANDLER
        task.view.blocked = bit(SEGV) if prepare == "block" else 0
        world.signals.force(SigInfo(SEGV, SEGV_ACCERR, 8), default=prepare == "default")
        ended = world.get()
        assert ended.signal == SigInfo(SEGV, SEGV_ACCERR, 8), prepare
        assert task.sighand[SEGV].handler == SIG_DFL and not task.view.blocked
    task.sighand[SEGV] = HANDLER
    world.signals.force(SigInfo(SEGV, SEGV_ACCERR, 8))
    assert world.get() == SEGV


def test_a_handler_for_one_time(world):
    world.handle(USR1, flags=0x80000000)
    world.send(USR1)
    assert world.get() == USR1
    assert world.threads[0].sighand[USR1] == SigAction(SIG_DFL, 0x80000000)


def test_what_waited_for_a_process_is_for_the_threads_that_are_left(world):
    world.handle(USR1)
    first, second, third = world.threads
    second.view.blocked = third.view.blocked = bit(USR1)
    world.send(USR1)
    third.view.blocked = 0  # it was running and will see it, or is told now
    world.sched.ended(first, TaskExit(0, group=False))
    assert third.told and not second.told
    assert world.get(third) == USR1


@pytest.mark.parametrize(("action", "unwanted", "told"), [
    (SigAction(), False, False), (SigAction(SIG_IGN), True, False), (HANDLER, False, True),
    (SigAction(0x1000, 2), True, True),  # SA_NOCLDWAIT
])
def test_parents_are_told(world, action, unwanted, told):
    parent, child = world.threads[0], world.other
    parent.sighand[CHLD] = action
    assert world.signals.notify_parent(child, parent, TaskExit(5 << 8)) == unwanted
    assert parent.told == told
    if told:
        assert parent.signal.shared_pending.queue == [SigInfo(CHLD, CLD_EXITED, pid=9, status=5)]
        world.get()
        world.signals.notify_parent(child, parent, TaskExit(KILL))
        assert parent.signal.shared_pending.queue == [SigInfo(CHLD, CLD_KILLED, pid=9, status=KILL)]


def test_a_child_may_tell_with_another_signal_or_none(world):
    parent, child = world.threads[0], world.other
    world.handle(USR1)
    parent.sighand[CHLD] = SigAction(SIG_IGN)
    child.exit_signal = USR1
    assert not world.signals.notify_parent(child, parent, TaskExit(0))
    assert parent.signal.shared_pending.queue[0].signo == USR1
    child.exit_signal = 0
    assert not world.signals.notify_parent(child, parent, TaskExit(0))
    assert len(parent.signal.shared_pending.queue) == 1


@pytest.mark.parametrize("sighand", [False, True])
@pytest.mark.parametrize("memory", [False, True])
def test_what_a_child_has_of_its_parents(world, sighand, memory):
    parent, child = world.threads[0], FakeTask(10, 10, None, None)
    parent.sighand[USR1] = HANDLER
    parent.view.blocked, parent.view.sas_ss_sp, parent.view.sas_ss_size = bit(TERM), 0x5000, 0x2000
    parent.pending.add(SigInfo(TERM, SI_USER))
    copy_signals(child, parent, sighand=sighand, thread=False, memory=memory)
    assert child.sighand[USR1] == HANDLER and child.view.blocked == bit(TERM)
    assert child.view.sas_ss_size == (0 if memory else 0x2000)
    assert child.signal is not parent.signal and not child.pending.queue
    child.sighand[USR1] = SigAction()
    assert unhandled_signal(parent, USR1) == sighand


def test_layout_of_siginfo():
    fault = SigInfo(SEGV, SEGV_ACCERR, 0x1122334455667788).pack()
    assert len(fault) == 48 and fault[:12] == bytes([11, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0])
    assert fault[16:24] == 0x1122334455667788.to_bytes(8, "little")
    child = SigInfo(CHLD, CLD_KILLED, pid=70, uid=1000, status=9).pack()
    assert [int.from_bytes(child[i : i + 4], "little") for i in (16, 20, 24)] == [70, 1000, 9]
    own = SigInfo(SEGV, SI_KERNEL).pack()
    assert own[8] == 0x80 and own[12:] == bytes(36)
    sent = SigInfo(SEGV, SI_USER, pid=5).pack()
    assert sent[16] == 5, "a fault's number alone makes no fault"


@pytest.mark.parametrize(("info", "text"), [
    (SigInfo(SEGV, SEGV_ACCERR, 0x10), "SIGSEGV (SEGV_ACCERR) at 0x10"),
    (SigInfo(SEGV, SI_KERNEL), "SIGSEGV (SI_KERNEL)"),
    (SigInfo(TERM, SI_USER, pid=61), "SIGTERM from pid 61"), (SigInfo(40, SI_USER, pid=61), "signal 40 from pid 61"),
    (SigInfo(ILL, 2, 4), "SIGILL (ILL_ILLOPN) at 0x4"), (SigInfo(31, 7, 4), "SIGSYS (code 7) at 0x4"),
])
def test_words(info, text):
    assert str(info) == text
