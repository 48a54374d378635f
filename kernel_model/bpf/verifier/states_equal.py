"""When everything that held in one state holds in another.

Mirrors states_equal(), func_states_equal(), regsafe(), stacksafe(), refsafe() and widen_imprecise_scalars()
(kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier import tnum
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import (
    STACK_DYNPTR,
    STACK_INVALID,
    STACK_IRQ_FLAG,
    STACK_ITER,
    STACK_MISC,
    STACK_SPILL,
    Frame,
    Slot,
    State,
)

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env


class Exact(Enum):
    """How strictly states are compared (enum exact_level)."""

    NOT_EXACT = 0
    EXACT = 1
    RANGE_WITHIN = 2


def _range_within(old: Reg, cur: Reg) -> bool:
    return (
        old.umin <= cur.umin
        and old.umax >= cur.umax
        and old.smin <= cur.smin
        and old.smax >= cur.smax
        and old.u32min <= cur.u32min
        and old.u32max >= cur.u32max
        and old.s32min <= cur.s32min
        and old.s32max >= cur.s32max
        and tnum.contains(old.var_off, cur.var_off)
    )


_UNBOUND = Reg(R.SCALAR_VALUE)


class _Comparison:
    """One states_equal(): its map between identities of the two states."""

    def __init__(self, env: Env, exact: Exact) -> None:
        self.env = env
        self.exact = exact
        self.pairs: dict[int, int] = {}
        self.taken: set[int] = set()
        self.tmp_id = env.id_gen

    def ids(self, old: int, cur: int) -> bool:
        """check_ids(): identities correspond one to one."""
        if bool(old) != bool(cur):
            return False
        if not old:
            return True
        known = self.pairs.get(old)
        if known is not None:
            return known == cur
        if cur in self.taken:
            return False
        self.pairs[old] = cur
        self.taken.add(cur)
        return True

    def scalar_ids(self, old: int, cur: int) -> bool:
        """check_scalar_ids(): an old scalar without identity relied on none, a new one counts as one of its own."""
        if not old:
            return True
        if not cur:
            self.tmp_id += 1
            cur = self.tmp_id
        return self.ids(old, cur)

    def _regs_exact(self, old: Reg, cur: Reg) -> bool:
        return old.exact_key() == cur.exact_key() and self.ids(old.id, cur.id) and self.ids(
            old.ref_obj_id, cur.ref_obj_id
        )

    def _scalars(self, old: Reg, cur: Reg) -> bool:
        if not old.precise and self.exact is Exact.NOT_EXACT:
            return True
        moved = old.id & R.ADD_CONST
        if old.id and bool(moved) != bool(cur.id & R.ADD_CONST):
            return False
        if moved and old.off != cur.off:
            return False
        if not self.scalar_ids(old.id, cur.id):
            return False
        if moved and not self.scalar_ids(old.id & ~R.ADD_CONST, cur.id & ~R.ADD_CONST):
            return False
        return _range_within(old, cur)

    def regsafe(self, old: Reg, cur: Reg) -> bool:
        """regsafe(): a program that is safe with `old` is safe with `cur`."""
        if self.exact is Exact.EXACT:
            return self._regs_exact(old, cur)
        if old.type == R.NOT_INIT and (self.exact is Exact.NOT_EXACT or cur.type == R.NOT_INIT):
            return True
        if old.type != cur.type:
            return False
        base = old.base
        if base == R.SCALAR_VALUE:
            return self._scalars(old, cur)
        if base in (R.PTR_TO_MAP_KEY, R.PTR_TO_MAP_VALUE, R.PTR_TO_MEM):
            return (
                old.kind_key() == cur.kind_key()
                and _range_within(old, cur)
                and self.ids(old.id, cur.id)
                and self.ids(old.ref_obj_id, cur.ref_obj_id)
            )
        if base in (R.PTR_TO_PACKET, R.PTR_TO_PACKET_META):
            if old.range > cur.range or old.off != cur.off:
                return False
            return self.ids(old.id, cur.id) and _range_within(old, cur)
        if base == R.PTR_TO_STACK:
            return self._regs_exact(old, cur) and old.frameno == cur.frameno
        if base == R.PTR_TO_ARENA:
            return True
        return self._regs_exact(old, cur)

    def _slot(self, old: Slot, cur: Slot) -> bool:
        old_reg, cur_reg = _scalar_of(old), _scalar_of(cur)
        if old_reg is not None and cur_reg is not None:
            # only reached with some byte of the old slot in use
            return self.regsafe(old_reg, cur_reg)
        for i in range(8):
            a, b = old.kinds[i], cur.kinds[i]
            if a in (STACK_INVALID, STACK_MISC):
                continue
            if a != b:
                return False
        kind = old.kinds[7]
        if kind == STACK_SPILL:
            return self.regsafe(old.spilled, cur.spilled)
        a_reg, b_reg = old.spilled, cur.spilled
        if kind == STACK_ITER:
            return (
                a_reg.iter_name == b_reg.iter_name
                and a_reg.btf_id == b_reg.btf_id
                and a_reg.iter_state == b_reg.iter_state
                and self.ids(a_reg.ref_obj_id, b_reg.ref_obj_id)
            )
        if kind == STACK_DYNPTR:
            return (
                a_reg.dynptr_type == b_reg.dynptr_type
                and a_reg.dynptr_first == b_reg.dynptr_first
                and self.ids(a_reg.ref_obj_id, b_reg.ref_obj_id)
            )
        if kind == STACK_IRQ_FLAG:
            return a_reg.irq_class == b_reg.irq_class and self.ids(a_reg.ref_obj_id, b_reg.ref_obj_id)
        return True

    def stacksafe(self, old: Frame, cur: Frame) -> bool:
        """stacksafe(). Slots that nobody reads any more were wiped from `old` before."""
        for spi, old_slot in enumerate(old.stack):
            cur_slot = cur.stack[spi] if spi < len(cur.stack) else None
            if self.exact is not Exact.NOT_EXACT and (cur_slot is None or old_slot.kinds != cur_slot.kinds):
                return False
            # uninitialised and plain data of the old state say nothing
            if all(k in (STACK_INVALID, STACK_MISC) for k in old_slot.kinds):
                continue
            if cur_slot is None:
                return False
            if not self._slot(old_slot, cur_slot):
                return False
        return True

    def frames(self, old: Frame, cur: Frame, insn_idx: int) -> bool:
        """func_states_equal()."""
        if old.callback_depth > cur.callback_depth:
            return False
        live = self.env.aux[insn_idx].live_regs_before
        for i in range(11):
            if live >> i & 1 and not self.regsafe(old.regs[i], cur.regs[i]):
                return False
        return self.stacksafe(old, cur)

    def refs(self, old: State, cur: State) -> bool:
        """refsafe()."""
        if (
            len(old.refs) != len(cur.refs)
            or old.active_locks != cur.active_locks
            or old.active_preempt_locks != cur.active_preempt_locks
            or old.active_rcu_locks != cur.active_rcu_locks
            or old.forbid_fault_count != cur.forbid_fault_count
            or not self.ids(old.active_irq_id, cur.active_irq_id)
            or not self.ids(old.active_lock_id, cur.active_lock_id)
            or old.active_lock is not cur.active_lock
        ):
            return False
        return all(
            self.ids(a.id, b.id) and a.kind == b.kind and a.lock is b.lock and a.forbid_fault == b.forbid_fault
            for a, b in zip(old.refs, cur.refs, strict=True)
        )


def _scalar_of(slot: Slot) -> Reg | None:
    """scalar_reg_for_stack()."""
    if slot.is_spilled_scalar64:
        return slot.spilled
    if all(k in (STACK_MISC, STACK_INVALID) for k in slot.kinds):
        return _UNBOUND
    return None


def states_equal(env: Env, old: State, cur: State, exact: Exact) -> bool:
    """states_equal(): everything that held in `old` holds in `cur`."""
    if old.curframe != cur.curframe or old.in_sleepable != cur.in_sleepable:
        return False
    comparison = _Comparison(env, exact)
    if not comparison.refs(old, cur):
        return False
    for i in range(old.curframe + 1):
        if old.frames[i].callsite != cur.frames[i].callsite:
            return False
        if not comparison.frames(old.frames[i], cur.frames[i], old.frame_insn_idx(i)):
            return False
    return True


def widen_imprecise_scalars(env: Env, old: State, cur: State) -> None:
    """widen_imprecise_scalars(): scalars that differ between rounds of a loop, and did not matter, become unknown."""
    comparison = _Comparison(env, Exact.EXACT)
    for fr in range(old.curframe, -1, -1):
        fold, fcur = old.frames[fr], cur.frames[fr]
        for i in range(11):
            _maybe_widen(comparison, fold.regs[i], fcur.regs[i])
        for spi in range(min(len(fold.stack), len(fcur.stack))):
            if fold.stack[spi].is_spill and fcur.stack[spi].is_spill:
                _maybe_widen(comparison, fold.stack[spi].spilled, fcur.stack[spi].spilled)


def _maybe_widen(comparison: _Comparison, old: Reg, cur: Reg) -> None:
    if old.type != R.SCALAR_VALUE or cur.type != R.SCALAR_VALUE or old.precise or cur.precise:
        return
    if old.exact_key() == cur.exact_key() and comparison.ids(old.id, cur.id):
        return
    cur.mark_unknown()
