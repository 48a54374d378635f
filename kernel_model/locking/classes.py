"""Lock classes and held locks: the records of lockdep.

Mirrors struct lock_class and struct held_lock (include/linux/lockdep_types.h, lockdep.h) and get_usage_chars().
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class LockClass:
    """All locks of one key and subclass. `after` are the classes taken while one of this was held, with the stack at
    the first time."""

    name: str
    version: int  # counts classes of one name
    subclass: int
    wait_type_inner: int
    wait_type_outer: int
    written: bool = False  # taken exclusively with interrupts on
    read: bool = False
    checked: bool = False
    after: dict[LockClass, list[str]] = field(default_factory=dict)

    def use(self, mode: int) -> None:
        """mark_usage(): taken with interrupts on."""
        self.checked = True
        if mode:
            self.read = True
        else:
            self.written = True

    @property
    def usage(self) -> str:
        """get_usage_chars(): hardirq write and read, softirq write and read; nothing runs in interrupts here."""
        pair = ("+" if self.written else ".") + ("+" if self.read else ".")
        return pair + pair

    @property
    def label(self) -> str:
        """print_lock_name(): name, version and subclass."""
        version = f"#{self.version}" if self.version > 1 else ""
        return f"{self.name}{version}" + (f"/{self.subclass}" if self.subclass else "")

    @property
    def text(self) -> str:
        """`(name){usage}-{outer:inner}`; a lock without an outer type has the inner one."""
        outer = self.wait_type_outer or self.wait_type_inner
        return f"({self.label}){{{self.usage}}}-{{{outer}:{self.wait_type_inner}}}"

    def path_to(self, goal: LockClass) -> list[LockClass]:
        """The shortest chain of dependencies from this class to `goal`, both included; empty where there is none."""
        came: dict[LockClass, LockClass | None] = {self: None}
        todo = deque([self])
        while todo:
            cls = todo.popleft()
            if cls is goal and cls is not self:
                path: list[LockClass] = []
                step: LockClass | None = cls
                while step is not None:
                    path.append(step)
                    step = came[step]
                return path[::-1]
            for following in cls.after:
                if following not in came:
                    came[following] = cls
                    todo.append(following)
        return []


@dataclass(slots=True, eq=False)
class HeldLock:
    """One lock that a task holds, or is about to: `instance` is its struct lockdep_map."""

    instance: int
    cls: LockClass
    read: int  # 0 exclusive, 1 shared, 2 shared and recursive
    trylock: bool
    acquire_ip: int
