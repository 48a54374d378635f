"""The decisions of lockdep: may this task take this lock here, in this order?

Mirrors kernel/locking/lockdep.c (6.18): __lock_acquire(), check_wait_context(), mark_usage() and mark_lock(),
validate_chain(), check_deadlock(), check_prevs_add(), check_irq_usage(), __lock_release(), __lock_downgrade(),
mark_held_locks(). Everything is addresses and records: no guest, no text. Leaves out: comparison functions, pins,
statistics, limits of table sizes, lock_sync(), chain-key collisions, zapping the classes of freed keys, threaded
interrupts.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.locking import graph
from kernel_model.locking.classes import (
    DIR_MASK,
    ENABLED_HARDIRQ,
    ENABLED_SOFTIRQ,
    LD_LOCK_WAIT_OVERRIDE,
    LOCK_USED,
    LOCK_USED_READ,
    LOCKF_ENABLED_IRQ_ALL,
    LOCKF_USED_IN_IRQ_ALL,
    READ_MASK,
    STATE_MASK,
    USED_IN_HARDIRQ,
    USED_IN_SOFTIRQ,
    ClassTable,
    HeldLock,
    LockMap,
)
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

Held = list[HeldLock]


class Validator:
    """Classes, dependencies and decisions of one kernel. A task's held locks are the caller's list.

    `save_trace(skip)` gives the stack of the caller, without its `skip` innermost frames. With `prove_locking` off held
    locks are followed and nothing is checked.
    """

    def __init__(self, save_trace: Callable[[int], list[str]]) -> None:
        self._save_trace = save_trace
        self.classes = ClassTable()
        self.prove_locking = True
        self._chains: set[tuple[tuple[int, int, int], ...]] = set()

    # -- taking ------------------------------------------------------------------------------------------------------

    def acquire(
        self, held: Held, lock: LockMap, ip: int, context: Context, *, subclass: int = 0, trylock: bool = False,
        read: int = 0, check: bool = True, nest_lock: int = 0, nest_name: str = "",
    ) -> Problem | None:
        """__lock_acquire(): the lock goes onto `held` unless something is wrong."""
        check = check and self.prove_locking
        cls = self.classes.find(lock, subclass)
        if held and nest_lock and held[-1].cls is cls:
            held[-1].references = (held[-1].references or 1) + 1
            return None
        new = HeldLock(lock.instance, cls, read, trylock, ip, check, not context.hardirqs_on, context.irq_context,
                       nest_lock)
        problem = self._wait_context(held, new, context) or self._mark_usage(new, context)
        if problem is None and nest_lock and all(old.instance != nest_lock for old in held):
            problem = NestNotHeld(new, nest_name)
        problem = problem or self._validate_chain(held, new)
        if problem is None:
            held.append(new)
        return problem

    def _wait_context(self, held: Held, new: HeldLock, context: Context) -> Problem | None:
        """check_wait_context(): the strictest of what is held decides."""
        if not self.prove_locking or not new.cls.wait_type_inner or new.trylock:
            return None
        allowed = context.wait_type
        for old in self._same_context(held, new):
            if old.cls.wait_type_inner:
                allowed = min(allowed, old.cls.wait_type_inner)
                if old.cls.lock_type == LD_LOCK_WAIT_OVERRIDE:
                    allowed = old.cls.wait_type_inner
        if (new.cls.wait_type_outer or new.cls.wait_type_inner) > allowed:
            return WaitContext(new, context.wait_type)
        return None

    @staticmethod
    def _same_context(held: Held, new: HeldLock) -> Held:
        """The locks taken since the interrupt in which `new` is taken."""
        start = len(held)
        while start and held[start - 1].irq_context == new.irq_context:
            start -= 1
        return held[start:]

    # -- interrupts --------------------------------------------------------------------------------------------------

    def _mark_usage(self, new: HeldLock, context: Context) -> Problem | None:
        if new.check:
            read = READ_MASK if new.read else 0
            bits = []
            if not new.trylock:
                bits += [USED_IN_HARDIRQ] * context.in_hardirq + [USED_IN_SOFTIRQ] * context.in_softirq
            if context.hardirqs_on:
                bits += [ENABLED_HARDIRQ] + [ENABLED_SOFTIRQ] * context.softirqs_on
            for bit in bits:
                problem = self._mark_lock(new, bit | read)
                if problem is not None:
                    return problem
        return self._mark_lock(new, LOCK_USED_READ if new.read else LOCK_USED)

    def _mark_lock(self, lock: HeldLock, bit: int, skip: int = 1) -> Problem | None:
        """mark_lock() and mark_lock_irq(). `skip`: frames that the saved stack does not show."""
        cls = lock.cls
        if cls.usage_mask >> bit & 1:
            return None
        cls.usage_mask |= 1 << bit
        cls.usage_traces[bit] = self._save_trace(skip)
        if bit >= LOCK_USED:
            return None
        excluded = _exclusive(bit)
        for bad in [excluded] if bit & READ_MASK else [excluded, excluded | READ_MASK]:
            if cls.usage_mask >> bad & 1:
                return Usage(lock, bad, bit)
        forwards = not bit & DIR_MASK
        found = graph.bfs(graph.root(lock, backwards=not forwards), graph.used_as(3 << excluded),
                          backwards=not forwards, skip=graph.no_lock)
        if found is None:
            return None
        return Inversion(lock, found.path, forwards, excluded | (0 if found.cls.usage_mask >> excluded & 1 else 1))

    def hardirqs_on(self, held: Held, context: Context) -> Problem | None:
        """mark_held_locks(): interrupts are about to be enabled with these locks held."""
        for base in [ENABLED_HARDIRQ] + [ENABLED_SOFTIRQ] * context.softirqs_on:
            for lock in held if self.prove_locking else []:
                if lock.check:
                    problem = self._mark_lock(lock, base | (READ_MASK if lock.read else 0), skip=0)
                    if problem is not None:
                        return problem
        return None

    # -- order -------------------------------------------------------------------------------------------------------

    def _validate_chain(self, held: Held, new: HeldLock) -> Problem | None:
        """Only a chain of locks that was not seen before needs to be looked at; trylocks can come in any order."""
        if new.trylock or not new.check:
            return None
        here = self._same_context(held, new)
        chain = tuple((old.cls.key, old.cls.subclass, old.read) for old in (*here, new))
        if chain in self._chains:
            return None
        self._chains.add(chain)
        nested = False
        for old in held:
            if old.cls is not new.cls or (new.read == 2 and old.read):
                continue
            if new.nest_lock and any(o.instance == new.nest_lock for o in held[: held.index(old)]):
                nested = True
                break
            return Deadlock(old, new)
        return None if nested else self._check_prevs_add(here, new)

    def _check_prevs_add(self, held: Held, new: HeldLock) -> Problem | None:
        """The lock depends on those held, back to the first one that was not a trylock."""
        for old in reversed(held):
            if not old.check:
                continue
            problem = self._check_prev_add(old, new)
            if problem is not None:
                return problem
            if not old.trylock:
                break
        return None

    def _check_prev_add(self, prev: HeldLock, new: HeldLock) -> Problem | None:
        found = graph.bfs(graph.root(new), graph.conflicts_with(prev))
        if found is not None:
            return Deadlock(prev, new) if prev.cls is new.cls else Circular(prev, new, found.path)
        problem = self._check_irq_usage(prev, new)
        if problem is None:
            graph.add_dependency(prev, new, lambda: self._save_trace(2))
        return problem

    def _check_irq_usage(self, prev: HeldLock, new: HeldLock) -> Problem | None:
        """The new edge must not lead from a lock taken in interrupts to one held with interrupts enabled."""
        behind = graph.root(prev, backwards=True)
        used_in = graph.usage_behind(behind) & LOCKF_USED_IN_IRQ_ALL
        if not used_in:
            return None
        forbidden = 0
        for bit in range(LOCK_USED):
            if used_in >> bit & 1:
                forbidden |= 1 << _exclusive(bit) if bit & READ_MASK else 3 << _exclusive(bit)
        unsafe = graph.bfs(graph.root(new), graph.used_as(forbidden), skip=graph.no_lock)
        if unsafe is None:
            return None
        enabled = unsafe.cls.usage_mask & LOCKF_ENABLED_IRQ_ALL
        wanted = 0
        for bit in range(LOCK_USED):
            if enabled >> bit & 1:
                wanted |= 1 << _exclusive(bit) if bit & READ_MASK else 3 << _exclusive(bit)
        safe = graph.bfs(graph.root(prev, backwards=True), graph.used_as(wanted), backwards=True, skip=graph.no_lock)
        if safe is None:
            return None
        for bit in range(LOCK_USED):
            if not bit & DIR_MASK and safe.cls.usage_mask >> bit & 1:
                for bad in (_exclusive(bit), _exclusive(bit) | READ_MASK):
                    if enabled >> bad & 1 and not (bit & READ_MASK and bad & READ_MASK):
                        return BadDependency(prev, new, safe.path, unsafe.path, bit, bad)
        return None

    # -- giving up ---------------------------------------------------------------------------------------------------

    def release(self, held: Held, lock: LockMap, ip: int) -> Problem | None:
        """__lock_release(): the locks taken after it stay as they are."""
        for i in reversed(range(len(held))):
            if held[i].irq_context != held[-1].irq_context:
                break
            if held[i].instance == lock.instance:
                if held[i].references > 1:
                    held[i].references -= 1
                else:
                    del held[i]
                return None
        return Imbalance(lock, ip)

    def downgrade(self, held: Held, lock: LockMap, ip: int) -> Problem | None:
        """__lock_downgrade(): a writer becomes a reader."""
        for old in held:
            if old.instance == lock.instance:
                old.read, old.acquire_ip = 1, ip
                return None
        return Imbalance(lock, ip)

    @staticmethod
    def freed(held: Held, start: int, size: int, map_size: int = 1) -> Problem | None:
        """debug_check_no_locks_freed(): `map_size` bytes of each lock are its struct lockdep_map."""
        for old in held:
            if start - map_size < old.instance < start + size:
                return Freed(old, start, start + size)
        return None


def _exclusive(bit: int) -> int:
    """exclusive_bit(): the writer's usage in the other direction."""
    return (bit & STATE_MASK) | ((bit & DIR_MASK) ^ DIR_MASK)
