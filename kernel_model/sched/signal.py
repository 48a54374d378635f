"""Signals: who gets one, what waits, and what becomes of a task that has one.

Mirrors kernel/signal.c: send_signal_locked, complete_signal, force_sig_info_to_task, get_signal, do_notify_parent,
retarget_shared_pending. Frames are guest text (images/kernel/arch/*/signal.c). SIGKILL is a bit of task_struct and in
no queue. Leaves out: stopping (a default action that stops ends in an error), tracing, core dumps, limits of queues,
signalfd.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.signals import CLD_EXITED, CLD_KILLED, SI_KERNEL, SIGCHLD, SIGKILL, SigInfo
from kernel_model.sched.core import Scheduler
from kernel_model.sched.sighand import (
    SA_NOCLDWAIT,
    SA_RESETHAND,
    SIG_DFL,
    SIG_IGN,
    SIG_KERNEL_COREDUMP,
    SIG_KERNEL_ONLY,
    SIG_KERNEL_STOP,
    SIGCONT,
    SigAction,
    SigHand,
    SignalStruct,
    bit,
)
from kernel_model.sched.task import TIF_SIGPENDING, Task, TaskExit, Tasks
from kernel_model.types import Types


class Signals:
    """The kcalls of delivery, and what other parts of the model send signals with."""

    def __init__(
        self, tasks: Tasks, sched: Scheduler, current: Callable[[], Task], space: KernelSpace, types: Types
    ) -> None:
        self._tasks = tasks
        self._sched = sched
        self._current = current
        self._space = space
        self._types = types
        sched.on_exit.append(self._exit_signals)

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, info: SigInfo, task: Task, *, group: bool) -> None:
        """send_signal_locked(): to the process of `task` (`group`) or to it alone; it may wake tasks."""
        sig = info.signo
        self._prepare(sig, task)
        if self._ignored(task, sig):
            return
        pending = task.signal.shared_pending if group else task.pending
        if sig == SIGKILL or pending.add(info):
            self._complete(info, task, group)

    def _prepare(self, sig: int, task: Task) -> None:
        """prepare_signal(): stop signals and SIGCONT cancel each other."""
        gone = bit(SIGCONT) if bit(sig) & SIG_KERNEL_STOP else SIG_KERNEL_STOP if sig == SIGCONT else 0
        if gone:
            task.signal.shared_pending.flush(gone)
            for thread in self._tasks.group(task):
                thread.pending.flush(gone)

    @staticmethod
    def _ignored(task: Task, sig: int) -> bool:
        """sig_ignored(): one that is blocked is kept, the handler may have changed when it is unblocked."""
        return not task.view.blocked & bit(sig) and task.sighand.ignores(sig)

    @staticmethod
    def _wants(sig: int, task: Task) -> bool:
        """wants_signal()"""
        if task.view.blocked & bit(sig) or task.exit is not None:
            return False
        return sig == SIGKILL or bool(task.view.on_cpu) or not task.view.thread_info_flags & TIF_SIGPENDING

    def _complete(self, info: SigInfo, task: Task, group: bool) -> None:
        """complete_signal(): wakes who is to take it; one that will be fatal takes down the whole process at once."""
        target = task
        if not self._wants(info.signo, task):
            found = self._other_target(info.signo, task) if group else None
            if found is None:
                return  # somebody sees it on the way to user mode, or when it is unblocked
            target = found
        fatal = info.signo == SIGKILL or task.sighand.fatal(info.signo)
        if fatal and not bit(info.signo) & SIG_KERNEL_COREDUMP and task.tgid not in self._sched.group_exit:
            self._sched.group_exit[task.tgid] = TaskExit(info.signo, info)
            for thread in self._tasks.group(task):
                if thread.exit is None:
                    self._sched.kill(thread)
            return
        self._sched.signal_wake_up(target, fatal=info.signo == SIGKILL)

    def _other_target(self, sig: int, task: Task) -> Task | None:
        """The next thread, from the one that got the last signal on, that wants it."""
        threads = self._tasks.group(task)
        at = next((i for i, t in enumerate(threads) if t.pid == task.signal.curr_target), 0)
        for thread in threads[at:] + threads[:at]:
            if self._wants(sig, thread):
                task.signal.curr_target = thread.pid
                return thread
        return None

    def notify_parent(self, child: Task, parent: Task, ended: TaskExit) -> bool:
        """do_notify_parent(): tells the process of `parent`; True where it does not want to wait for its children."""
        sig, action = child.exit_signal, parent.sighand[SIGCHLD]
        ignored = sig == SIGCHLD and action.handler == SIG_IGN
        if sig and not ignored:
            killed = ended.code & 0x7F
            self.send(SigInfo(sig, CLD_KILLED if killed else CLD_EXITED, pid=child.tgid, uid=child.uid,
                              status=killed or ended.code >> 8), parent, group=True)
        return ignored or sig == SIGCHLD and bool(action.flags & SA_NOCLDWAIT)

    # -- forced signals ----------------------------------------------------------------------------------------------

    def force(self, info: SigInfo, *, default: bool = False) -> None:
        """force_sig_info_to_task() of the current task: one that it blocks or ignores, or `default`, is fatal."""
        task, mask = self._current(), bit(info.signo)
        blocked, action = bool(task.view.blocked & mask), task.sighand[info.signo]
        if blocked or default or action.handler == SIG_IGN:
            task.sighand[info.signo] = SigAction(SIG_DFL, action.flags, action.restorer, action.mask)
            task.view.blocked &= ~mask
        self.send(info, task, group=False)
        if not task.view.thread_info_flags & TIF_SIGPENDING:  # it waited already, blocked
            self._sched.signal_wake_up(task, fatal=False)

    @kcall
    def force_sig_fault(self, sig: int, code: int, addr: int) -> None:
        """int force_sig_fault(int sig, int code, void __user *addr)"""
        self.force(SigInfo(sig, code, addr))

    @kcall
    def force_sig(self, sig: int) -> None:
        """void force_sig(int sig)"""
        self.force(SigInfo(sig, SI_KERNEL))

    @kcall
    def force_fatal_sig(self, sig: int) -> None:
        """void force_fatal_sig(int sig): no handler sees it."""
        self.force(SigInfo(sig, SI_KERNEL), default=True)

    @kcall
    def pagefault_out_of_memory(self) -> None:
        """The OOM killer's only candidate is the task itself."""
        raise TaskExit(SIGKILL, SigInfo(SIGKILL, 0, 0))

    # -- delivery ----------------------------------------------------------------------------------------------------

    @kcall
    def get_signal(self, ksig: int) -> bool:
        """bool get_signal(struct ksignal *ksig): the next signal that has a handler; a fatal one ends the task."""
        task = self._current()
        while True:
            if task.view.sigkill_pending:
                raise TaskExit(SIGKILL, SigInfo(SIGKILL, 0, 0), group=False)
            info = self._dequeue(task)
            if info is None:
                return False
            action = task.sighand[info.signo]
            if action.handler not in (SIG_DFL, SIG_IGN):
                self._fill(ksig, info, action)
                if action.flags & SA_RESETHAND:
                    task.sighand[info.signo] = SigAction(SIG_DFL, action.flags, action.restorer, action.mask)
                return True
            if action.handler == SIG_IGN or task.sighand.ignores(info.signo):
                continue
            if bit(info.signo) & SIG_KERNEL_STOP:
                raise NotModelledError(f"{task.comm}/{task.pid}: {info}: stopping a process is not modelled")
            raise TaskExit(info.signo, info)

    def _dequeue(self, task: Task) -> SigInfo | None:
        """dequeue_synchronous_signal(), then dequeue_signal(): its own first, then those of the process."""
        blocked = int(task.view.blocked)
        info = task.pending.synchronous(blocked) or task.pending.next(blocked)
        info = info or task.signal.shared_pending.next(blocked)
        self.recalc_sigpending(task)
        return info

    def _fill(self, ksig: int, info: SigInfo, action: SigAction) -> None:
        ka, offset = action, self._types.offsetof
        words = (ka.handler, ka.flags, ka.restorer, ka.mask)
        self._space.write(ksig + offset("ksignal", "ka"), b"".join(word.to_bytes(8, "little") for word in words))
        self._space.write(ksig + offset("ksignal", "info"), info.pack())
        self._space.write_u32(ksig + offset("ksignal", "sig"), info.signo)

    # -- masks -------------------------------------------------------------------------------------------------------

    @staticmethod
    def waiting(task: Task) -> int:
        """The set of signals that wait for `task` or its process, blocked or not."""
        return task.pending.signal | task.signal.shared_pending.signal

    def recalc_sigpending(self, task: Task) -> bool:
        """recalc_sigpending(): sets TIF_SIGPENDING of the current task as it has to be; the result is that."""
        pending = bool(task.view.sigkill_pending) or bool(self.waiting(task) & ~int(task.view.blocked))
        if pending:
            task.view.thread_info_flags |= TIF_SIGPENDING
        else:
            task.view.thread_info_flags &= ~TIF_SIGPENDING
        return pending

    def _retarget(self, task: Task, which: int) -> None:
        """retarget_shared_pending(): `task` no longer takes the signals `which`, others of its process may."""
        left = task.signal.shared_pending.signal & which
        for thread in self._tasks.group(task):
            takes = left & ~int(thread.view.blocked)
            if thread is task or thread.exit is not None or not takes:
                continue
            left &= ~takes
            if not thread.view.thread_info_flags & TIF_SIGPENDING:
                self._sched.signal_wake_up(thread, fatal=False)

    @kcall
    def __set_current_blocked(self, set: int) -> None:
        """void __set_current_blocked(const sigset_t *newset), and set_current_blocked()"""
        task, set = self._current(), set & ~SIG_KERNEL_ONLY
        if task.view.thread_info_flags & TIF_SIGPENDING:
            self._retarget(task, set & ~int(task.view.blocked))
        task.view.blocked = set
        self.recalc_sigpending(task)

    def _exit_signals(self, task: Task) -> None:
        """exit_signals(): what waited for the process is for its other threads."""
        if task.view.thread_info_flags & TIF_SIGPENDING:
            self._retarget(task, ~int(task.view.blocked))


def unhandled_signal(task: Task, sig: int) -> bool:
    """bool unhandled_signal(struct task_struct *tsk, int sig): no handler will see it, so it may be logged."""
    return task.sighand[sig].handler in (SIG_DFL, SIG_IGN)


def copy_signals(child: Task, parent: Task, *, sighand: bool, thread: bool, memory: bool) -> None:
    """copy_sighand(), copy_signal() and the part of copy_process() about signals: what a new task has of its parent's
    and what it shares. Nothing waits for it yet."""
    child.sighand = parent.sighand if sighand else SigHand(dict(parent.sighand.actions))
    child.signal = parent.signal if thread else SignalStruct()
    child.view.blocked = parent.view.blocked
    if not memory:  # it would run on its parent's
        child.view.sas_ss_sp, child.view.sas_ss_size = parent.view.sas_ss_sp, parent.view.sas_ss_size
        child.view.sas_ss_flags = parent.view.sas_ss_flags
