"""Work put off: irq_work and the system work queue.

Mirrors kernel/irq_work.c and kernel/workqueue.c as far as `struct irq_work` and `struct work_struct` begin with their
function. What was queued runs when the CPU is idle again, irq_work first, in the order of queueing; only irq_work that
is not lazy interrupts its CPU, where the architecture here can (guest kernel/irq_work.c). Leaves out delayed work,
other queues, and waiting for work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace


class DeferredWork:
    """What is queued; `call(function, argument)` runs a guest function on an idle CPU."""

    def __init__(self, space: KernelSpace, call: Callable[[int, int], int]) -> None:
        self._space = space
        self._call = call
        self._irq: deque[int] = deque()
        self._raised: deque[int] = deque()
        self._work: deque[int] = deque()

    @kcall
    def irq_work_claim(self, work: int, lazy: bool) -> bool:
        """irq_work_claim() and __irq_work_queue_local(): false where it is queued already. Work that is not
        `lazy` interrupts its CPU where that can be."""
        return self._queue(self._irq if lazy else self._raised, work)

    @kcall
    def irq_work_next(self) -> int:
        """llist_del_first() of raised_list: the next work for the interrupt that runs, 0 where there is none."""
        return self._raised.popleft() if self._raised else 0

    @kcall
    def schedule_work(self, work: int) -> bool:
        """bool schedule_work(struct work_struct *work): false where it is queued already."""
        return self._queue(self._work, work)

    @staticmethod
    def _queue(queue: deque[int], work: int) -> bool:
        if work in queue:
            return False
        queue.append(work)
        return True

    def run(self) -> None:
        """Run everything, and what that queues."""
        while self._raised or self._irq or self._work:
            work = (self._raised or self._irq or self._work).popleft()
            self._call(self._space.read_u64(work), work)
