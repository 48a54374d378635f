"""Lock classes: what reports print of them, and the paths between them against a plain search."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel_model.locking.classes import LockClass


def lock_class(name="lock", **kw):
    return LockClass(name, kw.pop("version", 1), kw.pop("subclass", 0), 4, 0, **kw)


def test_usage_says_how_a_lock_was_taken():
    cls = lock_class("&mm->mmap_lock")
    assert cls.text == "(&mm->mmap_lock){....}-{4:4}"
    cls.use(0)
    assert cls.usage == "+.+."
    cls.use(1)
    assert cls.text == "(&mm->mmap_lock){++++}-{4:4}"


def test_labels():
    assert lock_class("a", version=3, subclass=2).label == "a#3/2"
    assert LockClass("rcu_read_lock_trace", 1, 0, 0, 0).text == "(rcu_read_lock_trace){....}-{0:0}"


@given(st.integers(2, 7), st.data())
def test_a_path_is_found_exactly_where_there_is_one(count, data):
    classes = [lock_class(f"c{i}") for i in range(count)]
    pairs = data.draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
    edges = {(a, b) for a, b in pairs if a != b}
    for a, b in sorted(edges):
        classes[a].after[classes[b]] = []
    reach = set(edges)
    for _ in range(count):
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    for a in range(count):
        for b in range(count):
            path = classes[a].path_to(classes[b])
            if a == b:
                continue
            assert bool(path) == ((a, b) in reach)
            if path:
                assert path[0] is classes[a] and path[-1] is classes[b]
                assert all(y in x.after for x, y in zip(path, path[1:], strict=False))
