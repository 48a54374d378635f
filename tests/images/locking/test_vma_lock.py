"""mm/mmap_lock.c: readers and writers of a VMA, and who gets mmap_lock on a fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.images.locking.interleave import KILL, RUN, Call, Explorer, Outcome, Stage, State
from tests.images.locking.test_others import frames
from tests.images.locking.test_rwsem import ARCHES, stage

VMA = 0x200  # behind the mm_struct
REGS = 0x300
START, END, STACK = 0x10000, 0x20000, 0x100


class Mm:
    """One mm with one VMA on a stage."""

    def __init__(self, here: Stage) -> None:
        self.here = here
        types = here.guest.types
        assert types.sizeof("mm_struct") <= VMA and VMA + types.sizeof("vm_area_struct") <= REGS
        self.mm, self.vma = here.lock, here.lock + VMA
        self.mm_view, self.vma_view = types.view("mm_struct", self.mm), types.view("vm_area_struct", self.vma)
        self.lock = self.mm + types.offsetof("mm_struct", "mmap_lock")
        here.answers["mas_walk_vma"] = lambda mm, addr: self.vma if here.read(here.TREE) else 0

    def init(self, stage: Stage) -> None:
        stage.guest.call("__init_rwsem", self.lock, 0, 0)
        self.mm_view.pgd = 0
        self.vma_view.vm_start, self.vma_view.vm_end, self.vma_view.vm_mm = START, END, self.mm
        self.vma_view.vm_lock_seq = 0xFFFF_FFFF
        stage.guest.call("vma_mark_attached", self.vma)
        stage.write(stage.TREE, 1)

    def calls(self) -> dict[str, Call]:
        def leave_tree(stage: Stage) -> None:
            stage.write(stage.TREE, 0)

        return {
            "r": Call("lock_vma_under_rcu", (self.mm, START + 5), takes="R", ok=bool),
            "ur": Call("vma_end_read", (self.vma,), gives="R"),
            "m": Call("mmap_write_lock", (self.mm,)), "w": Call("vma_start_write", (self.vma,), takes="W"),
            "um": Call("mmap_write_unlock", (self.mm,), gives="W"),
            "d": Call("mmap_write_downgrade", (self.mm,), gives="W"), "ud": Call("mmap_read_unlock", (self.mm,)),
            "x": Call("vma_mark_detached", (self.vma,), before=leave_tree),
            "mr": Call("mmap_read_lock", (self.mm,)),
        }  # fmt: skip

    def check(self, state: State) -> None:
        """Nobody reads the VMA while it is write-locked, by what calls returned and by the words themselves."""
        held = [h for t in state.tasks for h in t.held]
        if "R" in held:
            assert "W" not in held
            assert self.vma_view.vm_lock_seq != self.mm_view.mm_lock_seq
            assert self.vma_view.vm_refcnt.counter & 0xFFFF >= 1 + held.count("R")
        if "W" in held:
            assert self.mm_view.mm_lock_seq & 1

    def explore(self, *scripts: str) -> Outcome:
        calls = self.calls()
        steps = [[calls[n] for n in s.split()] for s in scripts]
        explorer = Explorer(self.here, steps, self.init, check=self.check)
        outcome = explorer.run()
        assert all(not blocked for _, blocked, _ in outcome.ends) and outcome.ends
        return outcome


@pytest.fixture(params=ARCHES)
def mm(request: pytest.FixtureRequest) -> Iterator[Mm]:
    here = stage(request.param)
    here.clock_step = 4_000
    before = dict(here.answers)
    yield Mm(here)
    here.answers = before


@pytest.mark.parametrize("scripts", [
    ("r ur", "m w um"), ("r ur", "r ur", "m w um"), ("r ur r ur", "m w um"), ("r ur", "m w um m w um"),
    ("r ur", "m w d ud"), ("r ur", "m w um", "m w um"),
])  # fmt: skip
def test_no_reader_of_a_vma_that_is_write_locked(mm: Mm, scripts: tuple[str, ...]) -> None:
    outcome = mm.explore(*scripts)
    got = {bool(r[0][0]) for r, *_ in outcome.ends}
    assert got == {True, False}, "sometimes the reader is first, sometimes the writer"
    # the page still holds the last end that was run to: free, attached, unlocked
    assert mm.mm_view.vma_writer_wait == 0


def test_a_detached_vma_has_no_readers(mm: Mm) -> None:
    def check(state: State) -> None:
        mm.check(state)
        if state.tasks[1].at >= 3:
            assert mm.vma_view.vm_refcnt.counter < 0x40000000 and "R" not in state.tasks[0].held

    calls = mm.calls()
    steps = [[calls[n] for n in s.split()] for s in ("r ur", "m w x um")]
    outcome = Explorer(mm.here, steps, mm.init, check=check).run()
    assert {bool(r[0][0]) for r, *_ in outcome.ends} == {True, False}
    assert all(not blocked for _, blocked, _ in outcome.ends)


def test_an_address_that_the_vma_has_lost_is_not_locked(mm: Mm) -> None:
    """It shrank between lookup and lock."""
    calls = {"r": Call("lock_vma_under_rcu", (mm.mm, END), takes="R", ok=bool)}
    outcome = Explorer(mm.here, [[calls["r"]]], mm.init, check=mm.check).run()
    assert {r for r, *_ in outcome.ends} == {((0,),)}
    assert mm.vma_view.vm_refcnt.counter == 1


# -- lock_mm_and_find_vma --------------------------------------------------------------------------------------------


def regs(mm: Mm, *, user: bool = False, uaccess: bool = False) -> int:
    """pt_regs of a fault: from user mode, or in the kernel, there at an instruction with a fixup or without."""
    guest = mm.here.guest
    va = guest.mm.phys_to_virt(guest.mm.pages.alloc_pages(0, "regs", zero=True) << 12)
    view = guest.types.view("pt_regs", va)
    entry = guest.symbols["__start___ex_table"]
    offset = int.from_bytes(guest.space.read(entry, 4), "little", signed=True)
    ip = entry + offset if uaccess else guest.symbols["down_read"]
    if guest.arch == "x86_64":
        view.ip, view.cs = ip, 0x33 if user else 0x10
    else:
        view.pc, view.pstate = ip, 0 if user else 5
    return int(va)


def fault(mm: Mm, other: str, address: int, registers: int, *, flags: int = 0, found: bool = True) -> tuple[int, State]:
    """One task holds mmap_lock by `other` ("" for nobody), another faults; its result, or -1 where it sleeps."""
    here, calls = mm.here, mm.calls()
    here.answers["find_vma"] = lambda m, a: mm.vma if found else 0
    steps = [[calls[other]] if other else [], [Call("lock_mm_and_find_vma", (mm.mm, address, registers), ok=bool,
                                                    takes="L")]]

    def init(stage: Stage) -> None:
        mm.init(stage)
        mm.vma_view.vm_flags = flags

    explorer = Explorer(here, steps, init)
    state = explorer.start
    while state.tasks[0].at < len(steps[0]):
        state = explorer.advance(state, (RUN, 0))
    here.views[0].on_cpu = 0
    state = State(explorer._save(), state.tasks)
    while not state.tasks[1].blocked and state.tasks[1].at == 0:
        state = explorer.advance(state, (RUN, 1))
    if state.tasks[1].blocked:
        killed = explorer.advance(state, (KILL, 1))
        while killed.tasks[1].at == 0:
            killed = explorer.advance(killed, (RUN, 1))
        assert killed.tasks[1].results == (0,), "a signal ends the wait"
        explorer._load(state)
        return -1, state
    return state.tasks[1].results[0], state


def count(mm: Mm) -> int:
    return int.from_bytes(mm.here.guest.space.read(mm.lock, 8), "little")


def test_a_fault_takes_mmap_lock_and_finds_the_vma(mm: Mm) -> None:
    assert fault(mm, "", START, regs(mm))[0] == mm.vma & 0xFFFF_FFFF
    assert count(mm) == 0x100
    assert fault(mm, "", START, regs(mm), found=False)[0] == 0
    assert count(mm) == 0
    assert fault(mm, "", START - 8, regs(mm))[0] == 0, "a hole below a VMA that does not grow"
    assert count(mm) == 0


def test_who_waits_for_mmap_lock(mm: Mm) -> None:
    """A kernel-mode fault without a fixup must not: it may be a bug that happened with the lock held."""
    assert fault(mm, "m", START, regs(mm))[0] == 0
    assert count(mm) == 1
    for registers in (regs(mm, user=True), regs(mm, uaccess=True)):
        result, state = fault(mm, "m", START, registers)
        assert result == -1
        assert frames(mm.here, state, 1) == [  # taskvma_mmaplock_hang: task dl_runner
            "rwsem_down_read_slowpath", "down_read_killable", "mmap_read_lock_killable", "lock_mm_and_find_vma",
        ]  # fmt: skip
        assert mm.here.state(1) == 0x102


def test_a_stack_grows_with_the_lock_for_writing(mm: Mm) -> None:
    """In between the lock is free, and afterwards it is held for reading."""
    here, asked = mm.here, []

    def expand(vma: int, address: int) -> int:
        asked.append((count(mm), int(mm.mm_view.mm_lock_seq) & 1))
        return 0 if address >= START - 8 else -12

    here.answers["expand_stack_locked"] = expand
    assert fault(mm, "", START - 8, regs(mm, user=True), flags=STACK)[0] == mm.vma & 0xFFFF_FFFF
    assert asked == [(1, 1)] and count(mm) == 0x100
    assert fault(mm, "", START - 9, regs(mm, user=True), flags=STACK)[0] == 0
    assert count(mm) == 0 and not mm.mm_view.mm_lock_seq & 1
    assert fault(mm, "mr", START - 8, regs(mm, user=True), flags=STACK)[0] == -1, "another reader is in the way"
