"""The graph of lock dependencies, and searches in it that respect readers.

Mirrors __bfs() and what calls it in kernel/locking/lockdep.c. An edge A -> B means that B was taken while A was held;
it can be of four kinds, by how each was taken. A path is strong, and two strong paths can deadlock, unless somewhere a
recursive reader follows on the way in and a reader on the way out: -(*R)-> -(S*)->.

        -(SR)->  bit 0    a reader (A), then a recursive reader (B)
        -(ER)->  bit 1    a writer, then a recursive reader
        -(SN)->  bit 2    a reader, then a writer or a non-recursive reader
        -(EN)->  bit 3    a writer, then a writer or a non-recursive reader
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kernel_model.locking.classes import LD_LOCK_NORMAL, LOCKF_IRQ, Dependency, HeldLock, LockClass

DEP_SR, DEP_ER, DEP_SN, DEP_EN = 1, 2, 4, 8


def calc_dep(prev: HeldLock, next_: HeldLock) -> int:
    """The kind of prev -> next as a mask of one bit."""
    return 1 << ((prev.read == 0) + ((next_.read != 2) << 1))


def calc_depb(prev: HeldLock, next_: HeldLock) -> int:
    """The same, as a search backwards reads it: the roles of the ends are exchanged."""
    return 1 << ((next_.read != 2) + ((prev.read == 0) << 1))


@dataclass(slots=True, eq=False)
class Node:
    """A class reached by a search. `only_xr`: the path ends in a recursive reader (backwards: in a reader)."""

    cls: LockClass
    only_xr: bool
    parent: Node | None = None
    edge: Dependency | None = None  # by which it was reached

    @property
    def path(self) -> list[Node]:
        """From the root to this node."""
        out, node = [self], self.parent
        while node is not None:
            out.append(node)
            node = node.parent
        return out[::-1]


def root(lock: HeldLock, *, backwards: bool = False) -> Node:
    """bfs_init_root(), bfs_init_rootb()."""
    return Node(lock.cls, lock.read != 0 if backwards else lock.read == 2)


Match = Callable[[Node], bool]


def bfs(start: Node, match: Match, *, backwards: bool = False, skip: Match | None = None) -> Node | None:
    """The first node, nearest first, that a strong path leads to and that matches; the root counts."""
    todo: deque[Node] = deque([start])
    seen: set[LockClass] = set()
    while todo:
        node = todo.popleft()
        if node.cls in seen:
            continue
        seen.add(node.cls)
        if node.edge is not None and node.parent is not None:
            dep = node.edge.dep
            if node.parent.only_xr:
                dep &= ~(DEP_SR | DEP_SN)
            if not dep:
                continue
            node.only_xr = not dep & (DEP_SN | DEP_EN)
        if skip is not None and skip(node):
            continue
        if match(node):
            return node
        for edge in node.cls.before if backwards else node.cls.after:
            todo.append(Node(edge.cls, False, node, edge))
    return None


def conflicts_with(target: HeldLock) -> Match:
    """hlock_conflict(): the path leads back to a lock whose holder would be waited for."""
    return lambda node: node.cls is target.cls and (target.read == 0 or not node.only_xr)


def used_as(mask: int) -> Match:
    """usage_match(): a class with one of the usage bits; after a reader those of readers do not count."""
    return lambda node: bool(node.cls.usage_mask & (mask & LOCKF_IRQ if node.only_xr else mask))


def no_lock(node: Node) -> bool:
    """usage_skip(): local locks and wait-type overrides say nothing about interrupts."""
    return node.cls.lock_type != LD_LOCK_NORMAL


def usage_behind(start: Node) -> int:
    """usage_accumulate(): every usage bit of the classes from which a strong path leads to the root."""
    mask = 0

    def gather(node: Node) -> bool:
        nonlocal mask
        mask |= node.cls.usage_mask & (LOCKF_IRQ if node.only_xr else -1)
        return False

    bfs(start, gather, backwards=True, skip=no_lock)
    return mask


def add_dependency(prev: HeldLock, next_: HeldLock, save_trace: Callable[[], list[str]]) -> bool:
    """The edge prev -> next in both directions; False where it was there and only its kind is noted."""
    for edge in prev.cls.after:
        if edge.cls is next_.cls:
            edge.dep |= calc_dep(prev, next_)
            for back in next_.cls.before:
                if back.cls is prev.cls:
                    back.dep |= calc_depb(prev, next_)
            return False
    trace = save_trace()
    prev.cls.after.append(Dependency(next_.cls, calc_dep(prev, next_), trace))
    next_.cls.before.append(Dependency(prev.cls, calc_depb(prev, next_), trace))
    return True
