"""The hooks of lockdep in a kernel without it: nobody may have switched it on.

Mirrors kernel/locking/lockdep.c and __might_sleep() by name. Guest text calls these only with
kernel_features.prove_locking.
"""

from __future__ import annotations

from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall


class UnprovedKcalls:
    """kcalls that say what is missing."""

    @kcall
    def __lock_acquire(self, lock: int, subclass: int, trylock: int, read: int, nest_lock: int, ip: int) -> None:
        raise NotModelledError("lockdep")

    @kcall
    def lock_release(self, lock: int, ip: int) -> None:
        """void lock_release(struct lockdep_map *lock, unsigned long ip)"""
        raise NotModelledError("lockdep")

    @kcall
    def lock_downgrade(self, lock: int, ip: int) -> None:
        """void lock_downgrade(struct lockdep_map *lock, unsigned long ip)"""
        raise NotModelledError("lockdep")

    @kcall
    def __might_sleep(self, file: int, line: int) -> None:
        raise NotModelledError("might_sleep")
