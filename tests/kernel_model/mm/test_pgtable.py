"""kernel_model/mm/pgtable.py: one tree of tables against a dict."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arch.interface import PAGE_SIZE, Prot
from kernel_model.mm.pgtable import PMD_SHIFT, PMD_SIZE, MappingError, PageTableTree

BASE = 0x4000_0000
RW = Prot.READ | Prot.WRITE
USER = RW | Prot.USER


@pytest.fixture
def tree(init_mm):
    return PageTableTree(init_mm.memory, init_mm.pgtable, init_mm.pages, owner="test", user=True)


ADDRESS = st.sampled_from([BASE + i * PAGE_SIZE for i in (0, 1, 2, 511, 512, 513, 1 << 18)])
ACTION = st.one_of(
    st.tuples(st.just("map"), ADDRESS, st.integers(0, 1023)),
    st.tuples(st.just("unmap"), ADDRESS, st.integers(1, 600)),
    st.tuples(st.just("protect"), ADDRESS, st.booleans()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTION, max_size=25))
def test_map_unmap_protect_agree_with_a_dict(init_mm, actions):
    before = init_mm.pages.usage()
    tree = PageTableTree(init_mm.memory, init_mm.pgtable, init_mm.pages, owner="test", user=True)
    model = {}
    for what, va, arg in actions:
        if what == "map" and va in model:
            with pytest.raises(MappingError, match="remap"):
                tree.map_page(va, arg << 12, USER)
        elif what == "map":
            tree.map_page(va, arg << 12, USER)
            model[va] = (arg << 12, USER)
        elif what == "unmap":
            gone = [a for a in sorted(model) if va <= a < va + arg * PAGE_SIZE]
            assert [a for a, _ in tree.unmap_range(va, arg * PAGE_SIZE)] == gone
            for a in gone:
                del model[a]
        elif va in model:
            prot = USER if arg else USER & ~Prot.WRITE
            tree.protect(va, PAGE_SIZE, prot)
            model[va] = (model[va][0], prot)
        else:
            with pytest.raises(MappingError, match="not mapped"):
                tree.protect(va, PAGE_SIZE, RW)
    for va in [BASE + i * PAGE_SIZE for i in range(515)] + [BASE + (1 << 30)]:
        walk = tree.walk(va + 0x123)
        assert init_mm.pgtable.translate(init_mm.memory.read_u64, tree.root, va + 0x123) == walk.pa
        if va in model:
            assert (walk.pa, walk.prot) == (model[va][0] + 0x123, model[va][1])
        else:
            assert walk.pa is None
    tree.free_tables()
    assert init_mm.pages.usage() == before


def test_blocks_where_aligned_pages_at_the_edges(tree, init_mm):
    tree.map_range(BASE + PMD_SIZE - PAGE_SIZE, PMD_SIZE * 3 - PAGE_SIZE, PMD_SIZE + 2 * PAGE_SIZE, USER)
    assert len(tree.walk(BASE + PMD_SIZE - 1).levels) == 4
    assert len(tree.walk(BASE + PMD_SIZE + 5).levels) == 3
    assert tree.walk(BASE + PMD_SIZE + 0x12345).pa == PMD_SIZE * 3 + 0x12345
    read = init_mm.memory.read_u64
    assert init_mm.pgtable.translate(read, tree.root, BASE + PMD_SIZE + 0x12345) == PMD_SIZE * 3 + 0x12345
    assert len(tree.walk(BASE + 2 * PMD_SIZE).levels) == 4
    assert tree.walk(BASE + 2 * PMD_SIZE + PAGE_SIZE).pa is None


def test_a_partly_protected_or_unmapped_block_is_split(tree):
    tree.map_range(BASE, 0, PMD_SIZE, USER)
    tree.protect(BASE + PAGE_SIZE, PAGE_SIZE, Prot.READ | Prot.USER)
    assert not tree.walk(BASE + PAGE_SIZE).prot & Prot.WRITE
    assert tree.walk(BASE).prot & Prot.WRITE and tree.walk(BASE + 0x5678).pa == 0x5678
    tree.map_range(BASE + PMD_SIZE, 0, PMD_SIZE, USER)
    assert len(tree.unmap_range(BASE + PMD_SIZE, PAGE_SIZE)) == 1
    assert tree.walk(BASE + PMD_SIZE).pa is None
    assert tree.walk(BASE + PMD_SIZE + PAGE_SIZE).pa == PAGE_SIZE


def test_tables_under_a_block_are_refused(tree):
    tree.map_range(BASE, 0, PMD_SIZE, USER)
    with pytest.raises(MappingError, match="a block"):
        tree.ensure(BASE)
    with pytest.raises(MappingError, match="page aligned"):
        tree.map_range(BASE, 1, PAGE_SIZE, USER)


def test_populate_puts_one_table_in_an_empty_entry(tree, init_mm):
    where = tree.ensure(BASE, PMD_SHIFT)
    assert tree.entry_pa(BASE) is None
    tree.populate(where)
    assert tree.entry_pa(BASE) is not None
    assert init_mm.pgtable.pa(init_mm.memory.read_u64(where)) in tree.tables
    with pytest.raises(MappingError, match="not none"):
        tree.populate(where)


def test_a_sparse_window_of_4_gib_is_unmapped_by_what_it_holds(tree):
    tree.map_page(BASE + 0xFFFF_F000, 0x3000, USER)
    assert [va for va, _ in tree.unmap_range(BASE, 1 << 32)] == [BASE + 0xFFFF_F000]
