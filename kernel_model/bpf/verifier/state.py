"""Verifier states: stack slots, call frames, references, and the whole of one explored path.

Mirrors struct bpf_stack_state, bpf_func_state, bpf_reference_state, bpf_verifier_state (include/linux/bpf_verifier.h).
A checkpoint and the path that goes on from it never share a Reg, because precision is marked in place in
checkpoints only; stack slots are copied lazily as far as they are plain bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernel_model.bpf.verifier.regs import PTR_TO_STACK, SCALAR_VALUE, Reg

# enum bpf_stack_slot_type, and the letters the log prints
STACK_INVALID, STACK_SPILL, STACK_MISC, STACK_ZERO, STACK_DYNPTR, STACK_ITER, STACK_IRQ_FLAG = range(7)
SLOT_LETTERS = "?rm0dif"
SPECIAL_SLOTS = (STACK_SPILL, STACK_DYNPTR, STACK_ITER, STACK_IRQ_FLAG)

# enum bpf_iter_state
ITER_INVALID, ITER_ACTIVE, ITER_DRAINED = 0, 1, 2
ITER_STATE_NAMES = ("<invalid>", "active", "drained")

# enum ref_state_type
REF_PTR, REF_IRQ, REF_LOCK, REF_RES_LOCK, REF_RES_LOCK_IRQ = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5

MAIN_FUNC = -1  # callsite of the outermost frame (BPF_MAIN_FUNC)
MAX_CALL_FRAMES = 8


class Slot:
    """Eight bytes of stack. `kinds[0]` is the highest address (fp-1 of slot 0), as in the kernel's slot_type[]."""

    __slots__ = ("kinds", "spilled")

    kinds: bytearray
    spilled: Reg

    def __init__(self) -> None:
        self.kinds = bytearray(8)
        self.spilled = Reg()

    def copy(self) -> Slot:
        new = Slot.__new__(Slot)
        new.kinds = bytearray(self.kinds)
        new.spilled = self.spilled.copy()
        return new

    @property
    def is_spill(self) -> bool:
        """is_spilled_reg()."""
        return self.kinds[7] == STACK_SPILL

    @property
    def is_spilled_scalar(self) -> bool:
        """is_spilled_scalar_reg(): maybe only part of the slot."""
        return self.kinds[7] == STACK_SPILL and self.spilled.type == SCALAR_VALUE

    @property
    def is_spilled_scalar64(self) -> bool:
        """is_spilled_scalar_reg64()."""
        return self.kinds[0] == STACK_SPILL and self.spilled.type == SCALAR_VALUE


class Frame:
    """One call frame: registers R0..R10 and the stack slots touched so far (slot 0 is fp-8)."""

    __slots__ = (
        "regs", "stack", "callsite", "frameno", "subprogno",
        "in_callback", "in_async_callback", "in_exception_callback",
        "callback_depth", "async_entry_cnt", "callback_ret", "callee_kind",
    )  # fmt: skip

    def __init__(self, callsite: int, frameno: int, subprogno: int) -> None:
        self.regs: list[Reg] = [Reg() for _ in range(11)]
        self.stack: list[Slot] = []
        self.callsite = callsite
        self.frameno = frameno
        self.subprogno = subprogno
        self.in_callback = False
        self.in_async_callback = False
        self.in_exception_callback = False
        self.callback_depth = 0
        self.async_entry_cnt = 0
        self.callback_ret = (0, 0)  # range that R0 must lie in when a callback returns
        self.callee_kind = ""
        fp = self.regs[10]
        fp.mark_known_zero(PTR_TO_STACK)
        fp.frameno = frameno

    def copy(self) -> Frame:
        new = Frame.__new__(Frame)
        new.regs = [r.copy() for r in self.regs]
        new.stack = [s.copy() for s in self.stack]
        new.callsite = self.callsite
        new.frameno = self.frameno
        new.subprogno = self.subprogno
        new.in_callback = self.in_callback
        new.in_async_callback = self.in_async_callback
        new.in_exception_callback = self.in_exception_callback
        new.callback_depth = self.callback_depth
        new.async_entry_cnt = self.async_entry_cnt
        new.callback_ret = self.callback_ret
        new.callee_kind = self.callee_kind
        return new

    def grow(self, slots: int) -> None:
        """Have at least `slots` stack slots."""
        while len(self.stack) < slots:
            self.stack.append(Slot())


@dataclass(slots=True)
class Ref:
    """One acquired reference or lock."""

    kind: int
    id: int
    insn_idx: int
    lock: object = None  # identity of the locked object: (map or btf, its type)
    forbid_fault: bool = False  # KF_FORBID_FAULT: nobody may fault while it is held

    def copy(self) -> Ref:
        return Ref(self.kind, self.id, self.insn_idx, self.lock, self.forbid_fault)


@dataclass(slots=True)
class Jump:
    """One entry of the jump history: how `idx` was reached, and what precision tracking needs to know of it."""

    idx: int
    prev_idx: int
    flags: int = 0
    linked: tuple[tuple[int, int, bool], ...] = ()  # (frame, register or slot, is register)


# Jump.flags
INSN_F_STACK_ACCESS, INSN_F_DST_REG_STACK, INSN_F_SRC_REG_STACK = 1 << 10, 1 << 11, 1 << 12


def stack_access_flags(frameno: int, spi: int) -> int:
    """insn_stack_access_flags(): which stack slot an instruction spilled to or filled from."""
    return INSN_F_STACK_ACCESS | spi << 3 | frameno


@dataclass(slots=True, eq=False)
class State:
    """One path being explored, or a checkpoint of one."""

    frames: list[Frame] = field(default_factory=list)
    parent: State | None = None
    branches: int = 1
    insn_idx: int = 0
    curframe: int = 0
    refs: list[Ref] = field(default_factory=list)
    active_locks: int = 0
    active_lock_id: int = 0
    active_lock: object = None
    active_preempt_locks: int = 0
    active_irq_id: int = 0
    active_rcu_locks: int = 0
    forbid_fault_count: int = 0  # references with forbid_fault (KF_FORBID_FAULT v5)
    in_sleepable: bool = False
    cleaned: bool = False
    first_insn_idx: int = 0
    last_insn_idx: int = -1
    equal_state: State | None = None
    jumps: list[Jump] = field(default_factory=list)
    dfs_depth: int = 0
    callback_unroll_depth: int = 0
    may_goto_depth: int = 0
    # of checkpoints in the list of their instruction
    hits: int = 0
    misses: int = 0
    evicted: bool = False

    @property
    def frame(self) -> Frame:
        """The innermost frame."""
        return self.frames[self.curframe]

    def copy(self) -> State:
        """copy_verifier_state(): same knowledge, nothing shared that is written."""
        return State(
            frames=[f.copy() for f in self.frames],
            parent=self.parent,
            branches=self.branches,
            insn_idx=self.insn_idx,
            curframe=self.curframe,
            refs=[r.copy() for r in self.refs],
            active_locks=self.active_locks,
            active_lock_id=self.active_lock_id,
            active_lock=self.active_lock,
            active_preempt_locks=self.active_preempt_locks,
            active_irq_id=self.active_irq_id,
            active_rcu_locks=self.active_rcu_locks,
            forbid_fault_count=self.forbid_fault_count,
            in_sleepable=self.in_sleepable,
            first_insn_idx=self.first_insn_idx,
            last_insn_idx=self.last_insn_idx,
            equal_state=self.equal_state,
            jumps=list(self.jumps),
            dfs_depth=self.dfs_depth,
            callback_unroll_depth=self.callback_unroll_depth,
            may_goto_depth=self.may_goto_depth,
        )

    def frame_insn_idx(self, frameno: int) -> int:
        """frame_insn_idx(): the instruction a frame is at; for an outer one its call."""
        return self.insn_idx if frameno == self.curframe else self.frames[frameno + 1].callsite

    def all_regs(self) -> list[Reg]:
        """Every register and spilled register of every frame (bpf_for_each_reg_in_vstate)."""
        found: list[Reg] = []
        for frame in self.frames:
            found += frame.regs
            found += [slot.spilled for slot in frame.stack if slot.is_spill]
        return found

    def find_ref(self, ref_id: int, kind: int = REF_PTR) -> Ref | None:
        """The reference with this id, if it is held."""
        return next((r for r in self.refs if r.id == ref_id and r.kind & kind), None)
