"""Kernel threads that guest text starts, and khungtaskd.

Mirrors kernel/kthread.c (kthread_run) and the loop of kernel/hung_task.c:watchdog(). A thread that has ended is reaped
when the next one is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.kcall import kcall
from kernel_model.sched.task import Task

if TYPE_CHECKING:
    from emu.start_kernel import KernelParts

NS = 1_000_000_000
_KHUNGTASKD_PID = 23  # of the reference kernels; nothing else here begins that early


class Kthreads:
    """Kernel threads of one kernel."""

    def __init__(self, kernel: KernelParts) -> None:
        self._kernel = kernel
        self._started: list[Task] = []
        self._khungtaskd: Task | None = None

    @kcall
    def kthread_run(self, threadfn: int, data: int, name: int) -> int:
        """struct task_struct *kthread_run(int (*threadfn)(void *), void *data, const char *name): ready to run, on the
        CPU with the fewest tasks."""
        kernel = self._kernel
        processes = kernel.processes
        for old in [t for t in self._started if t.exit is not None]:
            self._started.remove(old)
            processes.reap(old)
        task = kernel.tasks.create(kernel.space.read_cstr(name).decode(), None)
        create = kernel.slab.kzalloc(16, "kthread_create_info")
        kernel.space.write_u64(create, threadfn)
        kernel.space.write_u64(create + 8, data)

        def first(vcpu: object) -> None:
            kernel.arch_boot.start_kthread(vcpu, task.stack_top, kernel.machine.symbol("kthread"), create)

        task.start = first
        self._started.append(task)
        processes.sched.start(task, processes.sched.idlest_cpu())
        return task.address

    # -- khungtaskd --------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, with whatever can run in it; khungtaskd looks at the tasks when that is due."""
        kernel, detector = self._kernel, self._kernel.hung_tasks
        end = kernel.clock.now + int(seconds * NS)
        while True:
            due = max(detector.last_checked + detector.timeout * NS, kernel.clock.now)
            kernel.processes.run_until(min(due, end))
            if due > end:
                return
            detector.last_checked = kernel.clock.now
            self._check()

    def _check(self) -> None:
        """check_hung_uninterruptible_tasks(), then the locks, which a guest function prints as khungtaskd."""
        kernel = self._kernel
        lines = kernel.hung_tasks.check(kernel.processes.sched.run_list, kernel.clock.now)
        kernel.console.print(*lines)
        if not lines or not kernel.lockdep.configured:
            return
        if self._khungtaskd is None:
            self._khungtaskd = kernel.tasks.create("khungtaskd", None, pid=_KHUNGTASKD_PID)
        cpu = kernel.machine.current_cpu
        before = kernel.processes.current()
        kernel.processes.switch(cpu, self._khungtaskd)
        try:
            kernel.machine.call("debug_show_all_locks")
        finally:
            kernel.processes.switch(cpu, before)
