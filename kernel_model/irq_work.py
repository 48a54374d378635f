"""Work put off: irq_work and the system work queue.

Mirrors kernel/irq_work.c and kernel/workqueue.c as far as `struct irq_work` and `struct work_struct` begin with their
function. Nothing interrupts a task here: what was queued runs when the CPU is idle again, irq_work first, in the order
of queueing. Leaves out delayed work, other queues, and waiting for work.
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
        self._work: deque[int] = deque()

    @kcall
    def irq_work_queue(self, work: int) -> bool:
        """bool irq_work_queue(struct irq_work *work): false where it is queued already."""
        return self._queue(self._irq, work)

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
        while self._irq or self._work:
            work = (self._irq or self._work).popleft()
            self._call(self._space.read_u64(work), work)
