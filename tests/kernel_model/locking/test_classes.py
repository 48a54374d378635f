"""Lock classes: what reports print of them, and the paths between them against a plain closure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel_model.locking import graph
from kernel_model.locking.classes import (
    ENABLED_HARDIRQ,
    ENABLED_SOFTIRQ,
    LD_WAIT_SLEEP,
    READ_MASK,
    USED_IN_HARDIRQ,
    HeldLock,
    LockClass,
)


def lock_class(name="lock", version=1, subclass=0):
    return LockClass(0x1000, name, version, subclass, LD_WAIT_SLEEP)


def held(cls):
    return HeldLock(1, cls, 0, False, 0)


def test_usage_says_how_a_lock_was_taken():
    cls = lock_class("&mm->mmap_lock")
    assert cls.text == "(&mm->mmap_lock){....}-{4:4}"
    for bit in (ENABLED_HARDIRQ, ENABLED_SOFTIRQ):
        cls.usage_mask |= 1 << bit
    assert cls.usage == "+.+."
    for bit in (ENABLED_HARDIRQ, ENABLED_SOFTIRQ):
        cls.usage_mask |= 1 << (bit | READ_MASK)
    assert cls.text == "(&mm->mmap_lock){++++}-{4:4}"
    cls.usage_mask |= 1 << USED_IN_HARDIRQ
    assert cls.usage == "?+++"


def test_labels():
    assert lock_class("a", version=3, subclass=2).label == "a#3/2"
    assert LockClass(0, "rcu_read_lock_trace", 1, 0).text == "(rcu_read_lock_trace){....}-{0:0}"
    assert LockClass(0xABC, "", 1, 0).label == "0000000000000abc"


@given(st.integers(2, 7), st.data())
def test_a_path_is_found_exactly_where_there_is_one(count, data):
    """Exclusive locks only: every path is a strong one."""
    classes = [lock_class(f"c{i}") for i in range(count)]
    pairs = data.draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
    edges = {(a, b) for a, b in pairs if a != b}
    for a, b in sorted(edges):
        graph.add_dependency(held(classes[a]), held(classes[b]), list)
    reach = set(edges)
    for _ in range(count):
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    for a in range(count):
        for b in range(count):
            if a != b:
                found = graph.bfs(graph.root(held(classes[a])), graph.conflicts_with(held(classes[b])))
                assert (found is not None) == ((a, b) in reach)
