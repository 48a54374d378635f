"""Searches in the graph of dependencies, against plain ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel_model.locking import graph
from kernel_model.locking.classes import HeldLock, LockClass


def held(cls, read=0):
    return HeldLock(cls.key, cls, read, False, 0)


def classes(count):
    return [LockClass(i, f"c{i}", 1, 0) for i in range(count)]


@given(st.integers(2, 7), st.data())
def test_a_path_of_writers_is_found_exactly_where_there_is_one(count, data):
    nodes = classes(count)
    pairs = data.draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
    edges = {(a, b) for a, b in pairs if a != b}
    for a, b in sorted(edges):
        assert graph.add_dependency(held(nodes[a]), held(nodes[b]), list)
        assert not graph.add_dependency(held(nodes[a]), held(nodes[b]), list)
    reach = set(edges)
    for _ in range(count):
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    for a in range(count):
        for b in range(count):
            if a == b:
                continue
            for start, end, backwards in ((a, b, False), (b, a, True)):
                found = graph.bfs(graph.root(held(nodes[start]), backwards=backwards),
                                  lambda node, end=end: node.cls is nodes[end], backwards=backwards)  # fmt: skip
                assert (found is not None) == ((a, b) in reach)
                if found is not None:
                    steps = [int(node.cls.name[1:]) for node in found.path]
                    steps = steps[::-1] if backwards else steps
                    assert (steps[0], steps[-1]) == (a, b)
                    assert all(pair in edges for pair in zip(steps, steps[1:], strict=False))


def test_a_reader_after_a_recursive_reader_breaks_a_path():
    a, b, c = classes(3)
    graph.add_dependency(held(a), held(b, 2), list)  # -(ER)->
    graph.add_dependency(held(b, 1), held(c), list)  # -(SN)->: whoever reads b lets the recursive reader in
    assert graph.bfs(graph.root(held(a)), lambda node: node.cls is c) is None
    graph.add_dependency(held(b), held(c), list)  # now also by a writer of b
    assert graph.bfs(graph.root(held(a)), lambda node: node.cls is c) is not None


def test_kinds_of_edges():
    a, b = classes(2)
    kinds = {(x, y): graph.calc_dep(held(a, x), held(b, y)) for x in (0, 1, 2) for y in (0, 1, 2)}
    assert {kinds[1, 2], kinds[2, 2]} == {graph.DEP_SR} and kinds[0, 2] == graph.DEP_ER
    assert {kinds[x, y] for x in (1, 2) for y in (0, 1)} == {graph.DEP_SN}
    assert {kinds[0, y] for y in (0, 1)} == {graph.DEP_EN}
