"""The tree of VMAs against a plain list, with runs so short that they split and vanish."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_model.mm import vma_tree
from kernel_model.mm.mm_types import VM_GROWSDOWN
from kernel_model.mm.vma import VmArea
from kernel_model.mm.vma_tree import VmaTree

PAGES = 64
GUARD = 3


@pytest.fixture(autouse=True, scope="module")
def short_runs():
    before, vma_tree._RUN = vma_tree._RUN, 4
    yield
    vma_tree._RUN = before


def holes(vmas, low, high, length):
    """Every place in [low, high - length] that is free, and clear of a stack that is the next VMA above."""
    found = []
    for at in range(low, high - length + 1):
        above = min((v for v in vmas if v.vm_end > at), key=lambda v: v.vm_start, default=None)
        if above is None or at + length <= above.vm_start - (GUARD if above.vm_flags else 0):
            found.append(at)
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, PAGES), st.integers(1, 5), st.booleans()), max_size=60),
    st.tuples(st.integers(0, PAGES), st.integers(0, PAGES + 8), st.integers(1, 12)),
)
def test_finds_what_a_list_finds(changes, question):
    tree, vmas = VmaTree(), []
    for start, length, stack in changes:
        there = [v for v in vmas if v.vm_start < start + length and v.vm_end > start]
        if not there:
            vma = VmArea(None, start, start + length, VM_GROWSDOWN if stack and start > GUARD else 0)
            vmas.append(vma)
            tree.insert(vma)
        elif there[0].vm_end - there[0].vm_start > 1 and stack:
            there[0].vm_end -= 1
            tree.end_changed(there[0])
        else:
            vmas.remove(there[0])
            tree.remove(there[0])
        low, high, wanted = question
        free = holes(vmas, low, high, wanted)
        assert tree.highest_hole(low, high, wanted, GUARD) == (free[-1] if free else None)
        assert tree.lowest_hole(low, high, wanted, GUARD) == (free[0] if free else None)
    vmas.sort(key=lambda v: v.vm_start)
    assert list(tree) == vmas and tree.size == len(vmas)
    for at in range(PAGES + 8):
        assert tree.find(at) is next((v for v in vmas if v.vm_end > at), None)
        assert tree.before(at) is next((v for v in reversed(vmas) if v.vm_start < at), None)


def test_what_is_not_there_cannot_go():
    tree = VmaTree()
    with pytest.raises(KeyError):
        tree.remove(VmArea(None, 1, 2, 0))
    tree.insert(VmArea(None, 1, 2, 0))
    with pytest.raises(KeyError):
        tree.remove(VmArea(None, 1, 2, 0))
