"""The decisions of lockdep, over bare addresses: classes, order, readers, interrupts, wait types, unlocking."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_model.locking.classes import LockMap
from kernel_model.locking.problems import (
    BadDependency,
    Circular,
    Context,
    Deadlock,
    Freed,
    Imbalance,
    Inversion,
    NestNotHeld,
    Usage,
    WaitContext,
)
from kernel_model.locking.validator import Validator

PLAIN = Context()
IRQS_OFF = Context(hardirqs_on=False)
IN_IRQ = Context(hardirqs_on=False, in_hardirq=True, irq_config=True)
SPIN, CONFIG, SLEEP = 2, 3, 4


def lock(number: int, inner: int = 0, outer: int = 0, name: str | None = None) -> LockMap:
    return LockMap(0x1000 * number, 0x10 * number, name or f"lock{number}", inner, outer)


A, B, C = lock(1), lock(2), lock(3)


class Script:
    """Tasks that take and give up locks; the first problem ends it."""

    def __init__(self) -> None:
        self.validator = Validator(lambda skip: [f"skip{skip}"])
        self.tasks: dict[str, list] = {}

    def held(self, task: str = "t") -> list:
        return self.tasks.setdefault(task, [])

    def take(self, what: LockMap, task: str = "t", context: Context = PLAIN, **how):
        return self.validator.acquire(self.held(task), what, 0xABC, context, **how)

    def drop(self, what: LockMap, task: str = "t"):
        return self.validator.release(self.held(task), what, 0xDEF)

    def section(self, *locks: LockMap, **how):
        """Take them one inside the other, and give them up."""
        for what in locks:
            problem = self.take(what, **how)
            if problem is not None:
                return problem
        for what in reversed(locks):
            assert self.drop(what) is None
        return None


@pytest.fixture
def script() -> Script:
    return Script()


# -- classes ---------------------------------------------------------------------------------------------------------


def test_locks_of_one_key_are_one_class_and_names_are_numbered(script):
    find = script.validator.classes.find
    first, same = LockMap(0x100, 0x9, "x"), LockMap(0x200, 0x9, "x")
    assert find(first, 0) is find(same, 0)
    assert find(first, 0).label == "x"
    assert find(first, 1) is not find(first, 0) and find(first, 1).label == "x/1"
    assert find(LockMap(0x300, 0x8, "x"), 0).label == "x#2"
    assert find(LockMap(0x400, 0x7, "x"), 2).label == "x#3/2"
    assert find(LockMap(0x500, 0, "static"), 0).key == 0x500, "a static lock is its own key"


def test_usage_characters(script):
    cls = script.validator.classes.find(A, 0)
    script.section(A, read=1)
    assert cls.usage == ".+.+"
    script.section(A)
    assert cls.usage == "++++"
    other = script.validator.classes.find(B, 0)
    script.section(B, context=IN_IRQ)
    assert other.usage == "-..."
    assert cls.text == "(lock1){++++}-{0:0}"
    assert script.validator.classes.find(lock(9, SLEEP), 0).text == "(lock9){....}-{4:4}"
    assert script.validator.classes.find(lock(8, CONFIG, 1), 0).text == "(lock8){....}-{1:3}"


def test_unchecked_locks_are_followed_and_nothing_is_said(script):
    script.validator.prove_locking = False
    assert script.take(A) is None and script.take(A) is None
    assert [held.cls.usage for held in script.held()] == ["....", "...."]


# -- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "bad"), [(0, 0, True), (1, 1, True), (1, 2, False), (2, 2, False),
                                                      (0, 2, True), (1, 0, True), (2, 0, True), (2, 1, True)])
def test_same_class_twice(script, first, second, bad):
    assert script.take(A, read=first) is None
    assert isinstance(script.take(A, read=second), Deadlock) is bad


def test_a_trylock_is_not_checked_but_what_follows_it_is(script):
    assert script.take(A, trylock=True) is None and script.take(A, trylock=True) is None
    assert isinstance(script.take(A, read=1), Deadlock)


def test_another_lock_of_the_class_is_as_bad_unless_its_subclass_differs(script):
    script.take(A)
    assert script.take(LockMap(0x99, A.key, "lock1"), subclass=1) is None
    assert isinstance(script.take(LockMap(0x98, A.key, "lock1")), Deadlock)


def test_abba_and_the_way_there(script):
    assert script.section(A, B) is None and script.section(B, C) is None
    problem = script.section(C, A)
    assert isinstance(problem, Circular)
    assert [node.cls.name for node in problem.path] == ["lock1", "lock2", "lock3"]
    assert problem.path[1].edge.trace == ["skip2"]
    assert (problem.prev.cls.name, problem.next.cls.name) == ("lock3", "lock1")


def test_order_is_that_of_all_tasks(script):
    script.take(A, "one")
    script.take(B, "one")
    script.take(B, "two", trylock=True)
    assert isinstance(script.take(A, "two"), Circular)


def test_trylocks_make_no_order_but_hold_one(script):
    script.take(A)
    script.take(B, trylock=True)  # in any order: no A -> B
    script.drop(B)
    script.drop(A)
    assert script.section(B, A) is None
    script.take(A, trylock=True)
    assert isinstance(script.take(B), Circular), "B -> A was seen, and now A is held, however it was taken"


def test_recursive_readers_do_not_close_a_circle_writers_do(script):
    """read A, write B against write B, recursive read A: the second reader gets in."""
    script.take(A, read=2)
    script.take(B)
    script.drop(B)
    script.drop(A)
    script.take(B)
    assert script.take(A, read=2) is None
    script.drop(A)
    assert isinstance(script.take(A), Circular)


def test_an_rwsem_reader_waits_behind_writers_so_it_closes_a_circle(script):
    script.take(A, read=1)
    script.take(B)
    script.drop(B)
    script.drop(A)
    script.take(B)
    assert isinstance(script.take(A, read=1), Circular)


def test_nest_lock(script):
    many = [LockMap(0x2000 + i, 0x77, "many") for i in range(3)]
    script.take(A)
    for each in many:
        assert script.take(each, nest_lock=A.instance) is None
    assert len(script.held()) == 2 and script.held()[1].references == 3
    assert script.drop(many[0]) is None and script.drop(many[0]) is None and script.drop(many[0]) is None
    script.drop(A)
    assert isinstance(script.take(many[0], nest_lock=A.instance), NestNotHeld)


# -- interrupts ------------------------------------------------------------------------------------------------------


def test_a_lock_of_interrupts_must_be_taken_with_them_off(script):
    script.section(A)
    problem = script.take(A, context=IN_IRQ)
    assert isinstance(problem, Usage) and (problem.prev_bit, problem.new_bit) == (2, 0)


def test_the_other_way_round(script):
    script.section(A, context=IN_IRQ)
    assert script.section(A, context=IRQS_OFF) is None
    problem = script.take(A)
    assert isinstance(problem, Usage) and (problem.prev_bit, problem.new_bit) == (0, 2)


def test_readers_in_interrupts_do_not_mind_readers_outside(script):
    script.section(A, context=IN_IRQ, read=2)
    assert script.section(A, read=2) is None
    assert isinstance(script.take(A), Usage)


def test_enabling_interrupts_with_a_lock_held(script):
    script.section(A, context=IN_IRQ)
    script.take(A, context=IRQS_OFF)
    assert isinstance(script.validator.hardirqs_on(script.held(), Context()), Usage)


def test_safe_to_unsafe_order(script):
    script.section(A, context=IN_IRQ)
    script.section(B)  # held with interrupts on
    script.take(A, context=IRQS_OFF)
    problem = script.take(B, context=IRQS_OFF)
    assert isinstance(problem, BadDependency)
    assert (problem.safe[-1].cls.name, problem.unsafe[-1].cls.name) == ("lock1", "lock2")
    assert (problem.safe_bit, problem.unsafe_bit) == (0, 2)


def test_an_order_that_becomes_unsafe_later(script):
    script.section(A, B, context=IRQS_OFF)
    script.section(B)  # unsafe: held with interrupts on
    problem = script.take(A, context=IN_IRQ)
    assert isinstance(problem, Inversion) and problem.forwards
    assert [node.cls.name for node in problem.path] == ["lock1", "lock2"]


def test_an_interrupt_begins_a_chain_of_its_own(script):
    script.take(A)
    assert script.take(B, context=IN_IRQ) is None
    assert not script.validator.classes.find(A, 0).after


# -- wait types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner", "bad"), [(SPIN, CONFIG, True), (CONFIG, SLEEP, True), (SPIN, SPIN, False),
                                                     (SLEEP, SPIN, False), (0, SLEEP, False)])
def test_wait_types_only_get_stricter(script, outer, inner, bad):
    script.take(lock(1, outer))
    assert isinstance(script.take(lock(2, inner)), WaitContext) is bad


def test_rcu_can_be_entered_anywhere_and_then_nothing_may_sleep(script):
    rcu = lock(5, CONFIG, 1)
    script.take(lock(1, SPIN))
    assert script.take(rcu, read=2, check=False) is None
    script.drop(rcu)
    script.drop(lock(1))
    script.take(rcu, read=2, check=False)
    assert script.take(lock(2, SLEEP), trylock=True) is None
    assert isinstance(script.take(lock(3, SLEEP)), WaitContext)


def test_interrupts_have_a_wait_type(script):
    assert isinstance(script.take(lock(1, CONFIG), context=Context(False, True)), WaitContext)
    assert script.take(lock(1, CONFIG), context=IN_IRQ) is None, "its handler would be a thread"


# -- giving up -------------------------------------------------------------------------------------------------------


def test_unlocking_what_is_not_held(script):
    script.take(A)
    problem = script.drop(B)
    assert isinstance(problem, Imbalance) and problem.lock is B
    assert script.drop(A) is None and isinstance(script.drop(A), Imbalance)


def test_unlocking_out_of_order_keeps_the_rest(script):
    for each in (A, B, C):
        script.take(each)
    assert script.drop(B) is None
    assert [held.instance for held in script.held()] == [A.instance, C.instance]


def test_downgrade(script):
    script.take(A)
    assert script.validator.downgrade(script.held(), A, 0x55) is None
    assert (script.held()[0].read, script.held()[0].acquire_ip) == (1, 0x55)
    assert isinstance(script.validator.downgrade(script.held(), B, 0), Imbalance)


def test_memory_with_a_held_lock(script):
    script.take(A)
    assert Validator.freed(script.held(), A.instance - 8, 8) is None
    assert isinstance(Validator.freed(script.held(), A.instance + 8, 8, 16), Freed), "a part of it"
    assert Validator.freed(script.held(), A.instance + 16, 8, 16) is None
    assert isinstance(Validator.freed(script.held(), A.instance - 8, 16), Freed)


# -- against an independent reference --------------------------------------------------------------------------------


def closes_circle(edges: set[tuple[int, int]], new: tuple[int, int]) -> bool:
    """Whether new[1] reaches new[0]: by the transitive closure of the relation, computed as Warshall does."""
    nodes = {n for edge in edges for n in edge} | set(new)
    reach = {(a, b): (a, b) in edges for a in nodes for b in nodes}
    for k in nodes:
        for i in nodes:
            for j in nodes:
                reach[i, j] = reach[i, j] or reach[i, k] and reach[k, j]
    return reach[new[1], new[0]]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4, unique=True), max_size=12))
def test_exclusive_locks_are_refused_exactly_where_the_order_has_a_circle(sections):
    script, edges = Script(), set()
    for section in sections:
        expected = next(
            (True for held, new in zip(section, section[1:], strict=False)
             if closes_circle(edges, (held, new)) or edges.add((held, new))), False)  # fmt: skip
        problem = script.section(*map(lock, section))
        assert isinstance(problem, Circular) == expected
        if problem is not None:
            names = [node.cls.key // 16 for node in problem.path]
            assert all((a, b) in edges for a, b in zip(names, names[1:], strict=False))
            return


MODES = st.sampled_from([0, 1, 2])


def can_deadlock(orders: set[tuple[int, int, int, int]]) -> bool:
    """Whether tasks that each hold one lock and want another can wait for each other in a ring.

    By search over rings of distinct classes: task i holds class c_i in mode h_i and wants c_(i+1) in mode w_i; it is
    kept out by the next task's hold unless that is a read and its own want a recursive read.
    """

    def ring(path: list[tuple[int, int, int, int]]) -> bool:
        held, _, _, want_mode = path[-1]
        for step in orders:
            if step[0] != path[-1][2] or (want_mode == 2 and step[1] != 0):
                continue
            first = path[0]
            if step[2] == first[0] and not (step[3] == 2 and first[1] != 0):
                return True
            seen = {other[0] for other in path}
            if not seen & {step[0], step[2]} and ring([*path, step]):
                return True
        return False

    return any(ring([start]) for start in orders)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), MODES, st.integers(1, 4), MODES).filter(lambda s: s[0] != s[2]),
                max_size=10))
def test_with_readers_only_real_deadlocks_are_reported(steps):
    script, orders = Script(), set()
    for held, held_mode, wanted, wanted_mode in steps:
        orders.add((held, held_mode, wanted, wanted_mode))
        assert script.take(lock(held), read=held_mode) is None
        problem = script.take(lock(wanted), read=wanted_mode)
        if problem is not None:
            assert isinstance(problem, Circular) and can_deadlock(orders)
            return
        script.drop(lock(wanted))
        script.drop(lock(held))
    # what __bfs() cannot find: it looks at each class once, though a second path to it may be a strong one
    if can_deadlock(orders):
        assert any(mode == 2 for step in orders for mode in step[1::2])
