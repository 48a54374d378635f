"""lockdep: which locks a task holds, and whether the order in which it takes them can deadlock.

Mirrors kernel/locking/lockdep.c: lock classes by key, held locks of each task, usage characters, check_deadlock(),
the dependency graph with check_noncircular(), lock_release(). Leaves out: inconsistent interrupt states, wait-type
contexts, nest_lock, cross-release of rwsems, pinning, statistics. After the first report it turns itself off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kernel_model.kcall import kcall
from kernel_model.locking import lockdep_text as text
from kernel_model.locking.classes import HeldLock, LockClass
from kernel_model.oops.common import System
from kernel_model.sched.task import Task
from kernel_model.types import Types

LOCKDEP_OK, LOCKDEP_DEADLOCK, LOCKDEP_CIRCULAR = range(3)
_UNCHECKED = 0x100
_OWN_FRAMES = 2  # __lock_acquire() and lock_acquire(), which a dependency's stack does not show


class Lockdep:
    """The validator of one kernel.

    `trace()` gives the current stack as lines, `irqs_on()` whether the current CPU takes interrupts. With
    `prove_locking` off (kernel.prove_locking=0) held locks are followed and nothing is checked.
    """

    def __init__(
        self, system: System, types: Types, tasks: Callable[[], Iterable[Task]], trace: Callable[[], list[str]],
        irqs_on: Callable[[], bool],
    ) -> None:
        self._system = system
        self._types = types
        self._tasks = tasks
        self._trace = trace
        self._irqs_on = irqs_on
        self.prove_locking = True
        self.debug_locks = True
        self._classes: dict[tuple[int, int], LockClass] = {}
        self._held: dict[int, list[HeldLock]] = {}  # by address of the task
        self._lines: list[str] = []  # of the report that is due

    # -- what is held ------------------------------------------------------------------------------------------------

    def held(self, task: Task) -> list[HeldLock]:
        """The locks on the task's stack, outermost first; the innermost may be one that it still waits for."""
        return self._held.get(task.address, [])

    def forget(self, task: Task) -> None:
        """The task is gone."""
        self._held.pop(task.address, None)

    def print_held_locks(self, task: Task) -> list[str]:
        """lockdep_print_held_locks()."""
        return text.held_locks(task, self.held(task), self._system.kallsyms.symbol)

    def show_all_locks(self) -> list[str]:
        """debug_show_all_locks(): what sysrq-d prints."""
        if not self.debug_locks:
            return ["INFO: lockdep is turned off."]
        lines = ["", "Showing all locks held in the system:"]
        for task in self._tasks():
            if self.held(task):
                lines += self.print_held_locks(task)
        return [*lines, "", "=" * 45, ""]

    def _class(self, lock: int, subclass: int) -> LockClass:
        """register_lock_class()."""
        view = self._types.view("lockdep_map", lock)
        key = int(view.key) or lock
        found = self._classes.get((key, subclass))
        if found is None:
            name = self._system.space.read_cstr(int(view.name)).decode() if view.name else ""
            version = 1 + sum(c.name == name and c.subclass == subclass for c in self._classes.values())
            found = LockClass(name, version, subclass, int(view.wait_type_inner), int(view.wait_type_outer))
            self._classes[key, subclass] = found
        return found

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def validate_chain(self, lock: int, subclass: int, trylock: int, read: int, nest_lock: int, ip: int) -> int:
        """__lock_acquire(): take note of a lock that the current task takes or waits for; what is wrong with that.

        `read` is 0, 1 or 2, with 0x100 where the lock is not to be checked.
        """
        if not self.debug_locks:
            return LOCKDEP_OK
        task, mode = self._system.current(), read & ~_UNCHECKED
        new = HeldLock(lock, self._class(lock, subclass), mode, bool(trylock), ip)
        held = self._held.setdefault(task.address, [])
        found = LOCKDEP_OK
        if not read & _UNCHECKED:
            if self._irqs_on():
                new.cls.use(mode)
            if self.prove_locking and not trylock:
                found = self._check(task, held, new)
            if self.prove_locking and held:
                self._depend(held, new)
        held.append(new)
        return found

    def _check(self, task: Task, held: list[HeldLock], new: HeldLock) -> int:
        """check_deadlock(), then check_noncircular()."""
        symbol = self._system.kallsyms.symbol
        for old in held:
            if old.cls is new.cls and not (new.read == 2 and old.read):
                self._report(text.recursive(self._system, task, old, new, held, symbol))
                return LOCKDEP_DEADLOCK
        for old in reversed(held):
            path = new.cls.path_to(old.cls)
            if path and old.cls.checked:
                self._report(text.circular(self._system, task, old, new, path, held, symbol,
                                           text.frames(self._trace())))
                return LOCKDEP_CIRCULAR
        return LOCKDEP_OK

    def _depend(self, held: list[HeldLock], new: HeldLock) -> None:
        """check_prevs_add(): the new lock depends on those held, back to the last one that was not a trylock."""
        for old in reversed(held):
            if old.cls.checked and old.cls is not new.cls and new.cls not in old.cls.after:
                old.cls.after[new.cls] = text.frames(self._trace())[_OWN_FRAMES:]
            if not old.trylock:
                break

    def _report(self, lines: list[str]) -> None:
        self._lines = lines
        self.debug_locks = False

    @kcall
    def lockdep_report(self) -> None:
        """The text of what was found, up to `stack backtrace:`."""
        self._system.console.print(*self._lines)

    @kcall
    def lock_release_check(self, lock: int, ip: int) -> bool:
        """__lock_release(): true where the current task does not hold the lock."""
        if not self.debug_locks:
            return False
        task = self._system.current()
        held = self._held.get(task.address, [])
        for i in reversed(range(len(held))):
            if held[i].instance == lock:
                del held[i]
                return False
        if self.prove_locking:
            name = self._class(lock, 0).name
            self._report(text.unbalanced(self._system, task, name, ip, held, self._system.kallsyms.symbol))
        return self.prove_locking

    @kcall
    def lock_downgrade(self, lock: int, ip: int) -> None:
        """void lock_downgrade(struct lockdep_map *lock, unsigned long ip)"""
        for entry in self._held.get(self._system.current().address, []):
            if entry.instance == lock:
                entry.read, entry.acquire_ip = 1, ip

    @kcall
    def __might_resched_check(self, file: int, line: int) -> bool:
        task = self._system.current()
        view = task.view
        irqs_off = not self._irqs_on()
        if not (view.preempt_count or view.rcu_read_lock_nesting or irqs_off) or not self.prove_locking:
            return False
        name = self._system.space.read_cstr(file).decode()
        self._system.console.print(
            f"BUG: sleeping function called from invalid context at {name}:{line}",
            f"in_atomic(): {int(bool(view.preempt_count))}, irqs_disabled(): {int(irqs_off)}, non_block: 0, "
            f"pid: {task.pid}, name: {task.comm}",
            f"preempt_count: {view.preempt_count:x}, expected: 0",
            f"RCU nest depth: {view.rcu_read_lock_nesting}, expected: 0",
            *(["INFO: lockdep is turned off."] if not self.debug_locks else self.print_held_locks(task)),
        )
        return True

    @kcall
    def __dump_stack(self) -> None:
        self._system.console.print(*self._system.info_lines(), *self._trace())
