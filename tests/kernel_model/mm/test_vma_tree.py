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


def fits(vmas, at, length):
    """Whether `length` pages are free at `at`; if they are, the stack above that they come too near to, or None."""
    if any(v.vm_start < at + length and v.vm_end > at for v in vmas):
        return False, None
    above = min((v for v in vmas if v.vm_start >= at + length), key=lambda v: v.vm_start, default=None)
    near = above is not None and above.vm_flags and at + length > above.vm_start - GUARD
    return True, above if near else None


def lowest(vmas, low, high, length):
    return next((at for at in range(low, high - length + 1) if fits(vmas, at, length) == (True, None)), None)


def highest(vmas, low, high, length):
    """From above; below a stack that is too near everything in its gap is skipped, mapped or not."""
    at = high - length
    while at >= low:
        free, stack = fits(vmas, at, length)
        if free and stack is None:
            return at
        at = stack.vm_start - GUARD - length if free else at - 1
    return None


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
        assert tree.highest_hole(low, high, wanted, GUARD) == highest(vmas, low, high, wanted)
        assert tree.lowest_hole(low, high, wanted, GUARD) == lowest(vmas, low, high, wanted)
    vmas.sort(key=lambda v: v.vm_start)
    assert list(tree) == vmas and tree.size == len(vmas)
    for at in range(PAGES + 8):
        assert tree.find(at) is next((v for v in vmas if v.vm_end > at), None)
        assert tree.before(at) is next((v for v in reversed(vmas) if v.vm_start < at), None)


def test_a_mapping_in_the_gap_of_a_stack_does_not_hide_what_is_below():
    tree = VmaTree()
    for vma in (VmArea(None, 20, 30, VM_GROWSDOWN), VmArea(None, 19, 20, 0)):
        tree.insert(vma)
    assert tree.highest_hole(0, 30, 1, GUARD) == 18, "the stack does not border on the hole"
    tree.remove(tree.find(19))
    tree.insert(VmArea(None, 18, 19, 0))
    assert tree.highest_hole(0, 30, 1, GUARD) == 16, "page 19 does border on it: the search goes on below the gap"
    assert tree.highest_hole(0, 30, 2, GUARD) == 16, "two pages do not fit there: no reason to jump"


def test_what_is_not_there_cannot_go():
    tree = VmaTree()
    with pytest.raises(KeyError):
        tree.remove(VmArea(None, 1, 2, 0))
    tree.insert(VmArea(None, 1, 2, 0))
    with pytest.raises(KeyError):
        tree.remove(VmArea(None, 1, 2, 0))
