"""futex(2): wait and wake.

Mirrors kernel/futex/waitwake.c for FUTEX_WAIT and FUTEX_WAKE, private or not (a key is the address space and the
address). Leaves out: bitsets, requeueing, priority inheritance, robust lists; a timeout must be relative.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.kcall import kcall
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.sched.core import Scheduler
from kernel_model.sched.requests import Block, Point, Sleeping
from kernel_model.sched.task import TASK_INTERRUPTIBLE, TIF_SIGPENDING, Task

_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_PRIVATE = 0, 1, 128
_EAGAIN, _EFAULT, _EINVAL, _ENOSYS, _ETIMEDOUT = 11, 14, 22, 38, 110
_ERESTARTSYS, _ERESTART_RESTARTBLOCK, _RESTART_FUTEX_WAIT = 512, 516, 1  # include/linux/sched.h: restart_fn
_TIMESPEC = 16


class Futexes:
    """kcalls of futex(2)."""

    def __init__(
        self, sched: Scheduler, current: Callable[[], Task], user: Callable[[], UserSpace | None],
        now: Callable[[], int],
    ) -> None:
        self._sched = sched
        self._current = current
        self._user = user
        self._now = now
        self._queues: dict[tuple[int, int], list[Task]] = {}

    @kcall
    def do_futex(self, uaddr: int, op: int, val: int, timeout: int) -> Sleeping:
        """long do_futex(): number of woken tasks, 0, or -errno. `timeout` points to a struct timespec or is NULL."""
        command = op & ~_FUTEX_PRIVATE
        if uaddr & 3:
            return -_EINVAL
        if command == _FUTEX_WAIT:
            return (yield from self._wait(uaddr, val, timeout))
        if command == _FUTEX_WAKE:
            return (yield from self._wake(uaddr, val))
        return -_ENOSYS

    def _key(self, uaddr: int) -> tuple[int, int]:
        mm = self._current().mm
        return (mm.addr if mm is not None else 0, uaddr)

    def _wait(self, uaddr: int, val: int, timeout: int) -> Sleeping:
        """futex_wait(): after a signal one without a timeout begins again, another goes on with the time left."""
        user = self._user()
        assert user is not None
        if timeout:
            try:
                raw = user.read(timeout, _TIMESPEC)
            except UserAccessError:
                return -_EFAULT
            seconds, nanoseconds = (int.from_bytes(raw[i : i + 8], "little", signed=True) for i in (0, 8))
            if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
                return -_EINVAL
            deadline = self._now() + seconds * 1_000_000_000 + nanoseconds
            return (yield from self.futex_wait_restart(uaddr, val, deadline))
        return (yield from self._wait_until(user, uaddr, val, None))

    @kcall
    def futex_wait_restart(self, uaddr: int, val: int, time: int) -> Sleeping:
        """long futex_wait_restart(): the wait that a signal without a handler has interrupted; `time` in virtual ns."""
        task, user = self._current(), self._user()
        assert user is not None
        result = yield from self._wait_until(user, uaddr, val, time)
        if result == -_ERESTARTSYS:
            restart = task.view.restart_block
            restart.fn, restart.uaddr, restart.val, restart.time = _RESTART_FUTEX_WAIT, uaddr, val, time
            return -_ERESTART_RESTARTBLOCK
        return result

    def _wait_until(self, user: UserSpace, uaddr: int, val: int, deadline: int | None) -> Sleeping:
        """__futex_wait(): 0 where it was woken, or -errno."""
        task = self._current()
        while True:
            try:
                if int.from_bytes(user.read(uaddr, 4), "little") != val:
                    return -_EAGAIN
            except UserAccessError:
                return -_EFAULT
            queue = self._queues.setdefault(self._key(uaddr), [])
            queue.append(task)
            task.state = TASK_INTERRUPTIBLE
            task.wake_time = deadline
            yield Block()
            task.wake_time = None
            if task not in queue:
                return 0
            queue.remove(task)
            if deadline is not None and self._now() >= deadline:
                return -_ETIMEDOUT
            if task.view.thread_info_flags & TIF_SIGPENDING:
                return -_ERESTARTSYS

    def _wake(self, uaddr: int, count: int) -> Sleeping:
        queue = self._queues.get(self._key(uaddr), [])
        woken = 0
        while queue and woken < count:
            self._sched.wake(queue.pop(0), TASK_INTERRUPTIBLE)
            woken += 1
        if woken:
            yield Point("wake")
        return woken
