"""Lock classes, what was seen of them, and held locks: the records of lockdep.

Mirrors struct lock_class, struct lock_list and struct held_lock (include/linux/lockdep_types.h, lockdep.h),
enum lock_usage_bit and get_usage_chars() (kernel/locking/lockdep_internals.h, lockdep.c).

A usage bit is  state << 2 | direction << 1 | read:  state 0 hardirq, 1 softirq; direction 0 taken in such an
interrupt, 1 taken with such interrupts enabled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

USED_IN_HARDIRQ, ENABLED_HARDIRQ, USED_IN_SOFTIRQ, ENABLED_SOFTIRQ = 0, 2, 4, 6
LOCK_USED, LOCK_USED_READ = 8, 9  # at all
READ_MASK, DIR_MASK, STATE_MASK = 1, 2, ~3
USAGE_NAMES = tuple(
    f"{'IN-' if not direction else ''}{state}{'-ON' if direction else ''}-{mode}"
    for state in ("HARDIRQ", "SOFTIRQ") for direction in (0, 1) for mode in "WR"
) + ("INITIAL USE", "INITIAL READ USE")  # fmt: skip
LOCKF_IRQ = 0x55  # every bit that is not a reader's
LOCKF_USED_IN_IRQ_ALL, LOCKF_ENABLED_IRQ_ALL = 0x33, 0xCC

LD_WAIT_SPIN, LD_WAIT_CONFIG, LD_WAIT_SLEEP, LD_WAIT_MAX = 2, 3, 4, 5
LD_LOCK_NORMAL, LD_LOCK_PERCPU, LD_LOCK_WAIT_OVERRIDE = range(3)


def state_name(bit: int) -> str:
    """HARDIRQ, HARDIRQ-READ, SOFTIRQ, SOFTIRQ-READ."""
    return ("HARDIRQ", "SOFTIRQ")[bit >> 2] + ("-READ" if bit & READ_MASK else "")


@dataclass(frozen=True, slots=True)
class LockMap:
    """struct lockdep_map as it is at the moment. `instance` is its address; `key` 0: the address is the key, as of a
    lock that was initialised statically."""

    instance: int
    key: int
    name: str
    wait_type_inner: int = 0
    wait_type_outer: int = 0
    lock_type: int = LD_LOCK_NORMAL


@dataclass(slots=True, eq=False)
class Dependency:
    """struct lock_list: a class that was taken after (or before) another. `dep` are the kinds of it that were seen,
    `trace` is the stack of the first."""

    cls: LockClass
    dep: int
    trace: list[str]


@dataclass(slots=True, eq=False)
class LockClass:
    """All locks of one key and subclass."""

    key: int
    name: str
    version: int  # counts keys of one name
    subclass: int
    wait_type_inner: int = 0
    wait_type_outer: int = 0
    lock_type: int = LD_LOCK_NORMAL
    usage_mask: int = 0
    usage_traces: dict[int, list[str]] = field(default_factory=dict)  # by usage bit: the stack of the first time
    after: list[Dependency] = field(default_factory=list)
    before: list[Dependency] = field(default_factory=list)

    @property
    def usage(self) -> str:
        """get_usage_chars(): hardirq write and read, softirq write and read."""
        out = ""
        for bit in (USED_IN_HARDIRQ, USED_IN_HARDIRQ | READ_MASK, USED_IN_SOFTIRQ, USED_IN_SOFTIRQ | READ_MASK):
            inside, enabled = self.usage_mask >> bit & 1, self.usage_mask >> (bit + DIR_MASK) & 1
            out += (".-", "+?")[enabled][inside]
        return out

    @property
    def label(self) -> str:
        """__print_lock_name(): name, version and subclass."""
        version = f"#{self.version}" if self.version > 1 else ""
        return (self.name or f"{self.key:016x}") + version + (f"/{self.subclass}" if self.subclass else "")

    @property
    def text(self) -> str:
        """`(name){usage}-{outer:inner}`; a lock without an outer type has the inner one."""
        outer = self.wait_type_outer or self.wait_type_inner
        return f"({self.label}){{{self.usage}}}-{{{outer}:{self.wait_type_inner}}}"


@dataclass(slots=True, eq=False)
class HeldLock:
    """One lock that a task holds, or is about to: `instance` is its struct lockdep_map."""

    instance: int
    cls: LockClass
    read: int  # 0 exclusive, 1 shared, 2 shared and recursive
    trylock: bool
    acquire_ip: int
    check: bool = True
    hardirqs_off: bool = False
    irq_context: int = 0  # 2 in a hard interrupt, 1 in a soft one
    nest_lock: int = 0
    references: int = 0


class ClassTable:
    """register_lock_class(): classes by key and subclass."""

    def __init__(self) -> None:
        self._classes: dict[tuple[int, int], LockClass] = {}

    def __iter__(self) -> Iterator[LockClass]:
        return iter(self._classes.values())

    def find(self, lock: LockMap, subclass: int) -> LockClass:
        """The class of a lock, made where it is new."""
        key = lock.key or lock.instance
        found = self._classes.get((key, subclass))
        if found is None:
            found = LockClass(key, lock.name, self._version(lock.name, key), subclass, lock.wait_type_inner,
                              lock.wait_type_outer, lock.lock_type)
            self._classes[key, subclass] = found
        return found

    def _version(self, name: str, key: int) -> int:
        """count_matching_names(): subclasses of one key share the number."""
        count = 0
        for cls in self._classes.values():
            if cls.key == key:
                return cls.version
            if cls.name == name:
                count = max(count, cls.version)
        return count + 1
