"""lockdep as the kernel meets it: which locks each task holds, and what is said when something is wrong.

Mirrors kernel/locking/lockdep.c (lock_acquire() to the report, debug_show_all_locks(), lockdep_sys_exit(),
lockdep_rcu_suspicious()) and __might_resched() and __schedule_bug() of kernel/sched/core.c. What is right and wrong is
decided in validator.py, the words are in lockdep_text.py; the frames that reports show are guest text
(images/kernel/kernel/locking/lockdep.c). After the first report about locks it turns itself off. A lock without class
and name is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kernel_model.kcall import kcall
from kernel_model.locking import lockdep_text as text
from kernel_model.locking.classes import HeldLock, LockMap
from kernel_model.locking.problems import (
    BadDependency,
    Circular,
    Context,
    Deadlock,
    Freed,
    Imbalance,
    Inversion,
    NestNotHeld,
    Problem,
    Usage,
    WaitContext,
)
from kernel_model.locking.validator import Validator
from kernel_model.oops.common import System
from kernel_model.sched.task import Task
from kernel_model.types import Types

# enum lockdep_found of guest lockdep.c
_FOUND: dict[type, int] = {Deadlock: 1, Circular: 2, WaitContext: 3, Usage: 4, Inversion: 5, BadDependency: 6,
                           Imbalance: 7, Freed: 8, NestNotHeld: 9}  # fmt: skip
_UNCHECKED = 0x100
_OWN_FRAMES = 2  # print_circular_bug() and check_noncircular(), which the new dependency's stack does not show
_JIFFY, _HZ = 1_000_000, 1_000


class Lockdep:
    """The validator of one kernel.

    `trace()` gives the current stack as lines, `irqs_on()` whether the current CPU takes interrupts, `now()` virtual
    ns. With `prove_locking` off (kernel.prove_locking=0) held locks are followed and nothing is checked.
    """

    def __init__(
        self, system: System, types: Types, tasks: Callable[[], Iterable[Task]], trace: Callable[[], list[str]],
        irqs_on: Callable[[], bool], now: Callable[[], int] = lambda: 0, configured: bool = True,
    ) -> None:
        self._system = system
        self._types = types
        self._tasks = tasks
        self._trace = trace
        self._irqs_on = irqs_on
        self._now = now
        self.configured = configured  # the kernel has lockdep at all
        self._outside = False  # what is noted was done by no guest code: it has no stack
        self.validator = Validator(lambda skip: [] if self._outside else text.frames(self._trace())[skip:])
        self.debug_locks = True
        self._held: dict[int, list[HeldLock]] = {}  # by address of the task
        self._problem: Problem | None = None
        self._last_complaint: int | None = None  # jiffies

    @property
    def prove_locking(self) -> bool:
        """sysctl kernel.prove_locking."""
        return self.validator.prove_locking

    @prove_locking.setter
    def prove_locking(self, value: bool) -> None:
        self.validator.prove_locking = value

    # -- what is held ------------------------------------------------------------------------------------------------

    def held(self, task: Task) -> list[HeldLock]:
        """The locks on the task's stack, outermost first; the innermost may be one that it still waits for."""
        return self._held.get(task.address, [])

    def forget(self, task: Task) -> None:
        """The task is gone. After an oops lockdep is off: kernel/panic.c:oops_enter()."""
        if task.exit is not None and task.exit.oops:
            self.debug_locks = False
        self._held.pop(task.address, None)

    def saw_exec(self, mm: int) -> None:
        """execve() has read its arguments with the mmap_lock of `mm` held for reading (get_arg_page()), and has mapped
        the program with it held for writing."""
        if not self.configured or not self.debug_locks:
            return
        lock = self._map(mm + self._types.offsetof("mm_struct", "mmap_lock")
                         + self._types.offsetof("rw_semaphore", "dep_map"))
        assert lock is not None
        self._outside = True
        for read in (1, 0):
            self.validator.acquire([], lock, 0, Context(), read=read)
        self._outside = False

    def print_held_locks(self, task: Task) -> list[str]:
        """lockdep_print_held_locks(): the locks themselves only where the task cannot change them meanwhile."""
        lines = text.held_locks(task, self.held(task), self._system.kallsyms.symbol)
        return lines if task is self._system.current() or task.state else lines[:1]

    def debug_show_held_locks(self, task: Task) -> list[str]:
        """debug_show_held_locks(): nothing on a kernel without lockdep."""
        if not self.configured:
            return []
        return self.print_held_locks(task) if self.debug_locks else ["INFO: lockdep is turned off."]

    def show_all_locks(self) -> list[str]:
        """debug_show_all_locks(): what sysrq-d prints."""
        if not self.debug_locks:
            return ["INFO: lockdep is turned off."]
        lines = ["", "Showing all locks held in the system:"]
        for task in self._tasks():
            if self.held(task):
                lines += self.print_held_locks(task)
        return [*lines, "", "=" * 45, ""]

    def _map(self, lock: int) -> LockMap | None:
        view = self._types.view("lockdep_map", lock)
        if not view.key and not view.name:
            return None
        name = self._system.space.read_cstr(int(view.name)).decode() if view.name else ""
        return LockMap(lock, int(view.key), name, int(view.wait_type_inner), int(view.wait_type_outer),
                       int(view.lock_type))  # fmt: skip

    def _context(self) -> Context:
        view = self._system.current().view
        return Context(self._irqs_on(), bool(view.hardirq_context), irq_config=bool(view.irq_config))

    def _mine(self) -> list[HeldLock]:
        return self._held.setdefault(self._system.current().address, [])

    def _found(self, problem: Problem | None) -> int:
        self._system.current().view.lockdep_depth = len(self._mine())
        if problem is None:
            return 0
        self._problem = problem
        self.debug_locks = False
        return _FOUND[type(problem)]

    def _scene(self) -> text.Scene:
        stack = text.frames(self._trace())
        return text.Scene(self._system, self._system.current(), self._mine(), self._context(), stack[_OWN_FRAMES:])

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def validate_acquire(self, lock: int, subclass: int, trylock: int, read: int, nest_lock: int, ip: int) -> int:
        """Take note of a lock that the current task takes or waits for; what is wrong with that, 0 for nothing.

        `read` is 0, 1 or 2, with 0x100 where the lock is not to be checked.
        """
        found = self._map(lock) if self.debug_locks else None
        if found is None:
            return 0
        nest = self._map(nest_lock) if nest_lock else None
        problem = self.validator.acquire(
            self._mine(), found, ip, self._context(), subclass=subclass, trylock=bool(trylock), read=read & ~_UNCHECKED,
            check=not read & _UNCHECKED, nest_lock=nest_lock, nest_name=nest.name if nest is not None else "",
        )
        return self._found(problem)

    @kcall
    def validate_release(self, lock: int, ip: int) -> int:
        """__lock_release(): 0 or what is wrong with it."""
        found = self._map(lock) if self.debug_locks else None
        return 0 if found is None else self._found(self.validator.release(self._mine(), found, ip))

    @kcall
    def validate_downgrade(self, lock: int, ip: int) -> int:
        """__lock_downgrade(): 0 or what is wrong with it."""
        found = self._map(lock) if self.debug_locks else None
        return 0 if found is None else self._found(self.validator.downgrade(self._mine(), found, ip))

    @kcall
    def validate_hardirqs_on(self) -> int:
        """The current task is about to enable interrupts; 0 or what is wrong with the locks it holds."""
        if not self.debug_locks:
            return 0
        return self._found(self.validator.hardirqs_on(self._mine(), self._context()))

    @kcall
    def validate_freed(self, start: int, size: int) -> int:
        """Memory becomes free, or a new lock: 0, or it holds a lock of the current task."""
        if not self.debug_locks:
            return 0
        return self._found(self.validator.freed(self._mine(), start, size, self._types.sizeof("lockdep_map")))

    @kcall
    def lockdep_report(self) -> None:
        """The text of what was found, up to `stack backtrace:`."""
        assert self._problem is not None
        self._system.console.print(*text.report(self._scene(), self._problem))

    @kcall
    def lockdep_report_more(self) -> None:
        """What follows the first stack of print_lock_nested_lock_not_held()."""
        self._system.console.print(*text.nest_not_held_more(self._scene()))

    @kcall
    def print_held_locks_report(self) -> bool:
        """The text of print_held_locks_bug(): false where lockdep is off."""
        on, self.debug_locks = self.debug_locks, False
        if on:
            self._system.console.print(*text.still_held(self._scene()))
        return on

    @kcall
    def lock_is_held_type(self, lock: int, read: int) -> int:
        """int lock_is_held_type(const struct lockdep_map *lock, int read): 0 no, 1 yes, -1 nobody knows; `read` -1: in
        any way."""
        if not self.debug_locks:
            return -1
        return int(any(old.instance == lock and read in (-1, old.read) for old in self._mine()))

    @kcall
    def debug_lockdep_rcu_enabled(self) -> bool:
        """int debug_lockdep_rcu_enabled(void)"""
        return self.configured and self.debug_locks

    @kcall
    def rcu_suspicious_report(self, file: int, line: int, what: int) -> None:
        """The text of lockdep_rcu_suspicious()."""
        read = self._system.space.read_cstr
        where, said = f"{read(file).decode()}:{line}", read(what).decode()
        self._system.console.print(*text.suspicious_rcu(self._scene(), where, said, self.debug_locks))

    @kcall
    def lockdep_sys_exit_report(self) -> None:
        """lockdep_sys_exit(): the current task returns to user mode with locks held."""
        if self.debug_locks:
            self.debug_locks = False
            self._system.console.print(*text.leaving_kernel(self._scene()))

    @kcall
    def print_all_held_locks(self) -> None:
        """The list in debug_show_all_locks()."""
        self._system.console.print(*self.show_all_locks())

    # -- sleeping where one must not ---------------------------------------------------------------------------------

    @kcall
    def might_resched_report(self, file: int, line: int, irqs_disabled: bool) -> bool:
        """The text of __might_resched(): false where one was printed within the last second."""
        now = self._now() // _JIFFY
        if self._last_complaint is not None and now < self._last_complaint + _HZ:
            return False
        self._last_complaint = now
        task = self._system.current()
        view, name = task.view, self._system.space.read_cstr(file).decode()
        count = int(view.preempt_count)
        self._system.console.print(
            f"BUG: sleeping function called from invalid context at {name}:{line}",
            f"in_atomic(): {count != 0:d}, irqs_disabled(): {irqs_disabled:d}, non_block: 0, "
            f"pid: {task.pid}, name: {task.comm}",
            f"preempt_count: {count:x}, expected: 0",
            f"RCU nest depth: {view.rcu_read_lock_nesting}, expected: 0",
            *self.debug_show_held_locks(task), *self._irqtrace(task, irqs_disabled),
        )
        return True

    @kcall
    def schedule_bug_report(self, preempt_count: int, irqs_disabled: bool) -> None:
        """The text of __schedule_bug()."""
        task = self._system.current()
        self._system.console.print(
            f"BUG: scheduling while atomic: {task.comm}/{task.pid}/0x{preempt_count:08x}",
            *self.debug_show_held_locks(task), self._system.modules_line(), *self._irqtrace(task, irqs_disabled),
        )

    def _irqtrace(self, task: Task, irqs_disabled: bool) -> list[str]:
        if not irqs_disabled or not self.configured:
            return []
        return text.irqtrace_events(task, self._system.kallsyms.symbol)

    @kcall
    def taint_warn(self) -> None:
        """add_taint(TAINT_WARN, LOCKDEP_STILL_OK)."""
        self._system.taint.add("W")

    @kcall
    def __dump_stack(self) -> None:
        self._system.console.print(*self._system.info_lines(), *self._trace())
