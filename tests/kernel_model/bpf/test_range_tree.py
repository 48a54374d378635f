"""The range tree against a plain bitmap, and its choice of range against the rule of range_tree.c."""

from hypothesis import given
from hypothesis import strategies as st

from kernel_model.bpf.range_tree import ENOENT, ESRCH, RangeTree, RangeTrees

PAGES = 24
OPS = st.lists(st.tuples(st.sampled_from(["set", "clear"]), st.integers(0, PAGES - 1), st.integers(1, 6)), max_size=40)


@given(OPS, st.integers(1, 8))
def test_like_a_bitmap_with_best_fit(ops: list[tuple[str, int, int]], want: int) -> None:
    tree, bitmap = RangeTree(), [False] * (PAGES + 8)
    for op, start, length in ops:
        getattr(tree, op)(start, length)
        bitmap[start : start + length] = [op == "set"] * length
    ranges, start = [], None
    for page, free in enumerate([*bitmap, False]):
        if free and start is None:
            start = page
        elif not free and start is not None:
            ranges.append((start, page - 1))
            start = None
    assert tree.ranges() == ranges
    sizes = [last - first + 1 for first, last in ranges if last - first + 1 >= want]
    found = tree.find(want)
    if not sizes:
        assert found == -ENOENT
    else:
        last = dict(ranges)[found]
        assert last - found + 1 == min(sizes)
    for first in range(PAGES):
        assert tree.is_set(first, want) == all(bitmap[first : first + want])


def test_among_equals_the_latest_inserted_wins() -> None:
    tree = RangeTree()
    for start in (10, 0, 20):
        tree.set(start, 2)
    assert tree.find(2) == 20
    tree.clear(20, 2)
    assert tree.find(1) == 0


def test_clearing_what_is_not_free_succeeds() -> None:
    trees = RangeTrees()
    trees.range_tree_init(0x1000)
    trees.range_tree_set(0x1000, 0, 4)
    assert trees.range_tree_clear(0x1000, 1, 2) == 0
    assert trees.range_tree_clear(0x1000, 1, 2) == 0
    assert trees.is_range_tree_set(0x1000, 0, 1) == 0
    assert trees.is_range_tree_set(0x1000, 1, 1) == -ESRCH
    assert trees.range_tree_find(0x1000, 2) == -ENOENT
