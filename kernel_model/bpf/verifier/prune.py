"""When a path may stop because an equal one was walked before, and when a loop never ends.

Mirrors is_state_visited(), states_equal(), the SCC visits and their backedges (kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import kinds, precision, tnum
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import (
    ITER_ACTIVE,
    STACK_DYNPTR,
    STACK_INVALID,
    STACK_IRQ_FLAG,
    STACK_ITER,
    STACK_MISC,
    STACK_SPILL,
    STACK_ZERO,
    Frame,
    Slot,
    State,
)

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env, SccVisit

MAX_BACKEDGE_ITERS = 64


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
                if cur_slot is None or not self._misc_vs_spill(old_slot, cur_slot):
                    continue
            if cur_slot is None:
                return False
            if not self._slot(old_slot, cur_slot):
                return False
        return True

    def _misc_vs_spill(self, old: Slot, cur: Slot) -> bool:
        return False

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


# --- loops: visits of strongly connected components -----------------------------------------------------------------


def _scc_chain(env: Env, state: State) -> tuple[int, ...] | None:
    """compute_scc_callchain(): (call sites ..., loop number), None outside of any loop."""
    calls: list[int] = []
    for i in range(state.curframe + 1):
        idx = state.frame_insn_idx(i)
        scc = env.aux[idx].scc
        if scc:
            return (*calls, -scc)
        calls.append(idx)
    return None


def _chain_text(chain: tuple[int, ...]) -> str:
    return "(" + "".join(f"{c}," for c in chain[:-1]) + f"{-chain[-1]})"


def _enter_scc(env: Env, state: State) -> None:
    from kernel_model.bpf.verifier.env import SccVisit

    chain = _scc_chain(env, state)
    if chain is None:
        return
    visit = env.scc_visits.setdefault(chain, SccVisit(None, []))
    if visit.entry_state is None:
        visit.entry_state = state
        if env.log2:
            env.verbose(f"SCC enter {_chain_text(chain)}\n")


def _exit_scc(env: Env, state: State) -> None:
    chain = _scc_chain(env, state)
    if chain is None:
        return
    visit = env.scc_visits.get(chain)
    if visit is None or visit.entry_state is not state:
        return
    if env.log2:
        env.verbose(f"SCC exit {_chain_text(chain)}\n")
    visit.entry_state = None
    env.num_backedges -= len(visit.backedges)
    env.update_peak_states()
    _propagate_backedges(env, visit)


def _propagate_backedges(env: Env, visit: SccVisit) -> None:
    """propagate_backedges(): precision around the loop until nothing changes."""
    rounds = 0
    changed = bool(visit.backedges)
    while changed:
        rounds += 1
        if rounds > MAX_BACKEDGE_ITERS:
            if env.log2:
                env.verbose("propagate_backedges: too many iterations\n")
            for state in visit.backedges:
                precision.mark_all_scalars_precise(env, state)
            break
        changed = False
        for state in reversed(visit.backedges):
            assert state.equal_state is not None
            changed |= precision.propagate(env, state.equal_state, state)
    visit.backedges = []


def _incomplete(env: Env, state: State) -> bool:
    """incomplete_read_marks(): the state's loop still has backedges whose marks are not known."""
    chain = _scc_chain(env, state)
    visit = env.scc_visits.get(chain) if chain is not None else None
    return visit is not None and bool(visit.backedges)


def _add_backedge(env: Env, equal: State, cur: State, insn_idx: int) -> None:
    chain = _scc_chain(env, equal)
    visit = env.scc_visits.get(chain) if chain is not None else None
    if chain is None or visit is None:
        env.bug(f"add backedge: no visit info for call chain at insn {insn_idx}")
    if env.log2:
        env.verbose(f"SCC backedge {_chain_text(chain)}\n")
    copy = cur.copy()
    copy.equal_state = equal
    copy.insn_idx = insn_idx
    visit.backedges.append(copy)
    env.num_backedges += 1
    env.update_peak_states()


def update_branch_counts(env: Env, state: State | None) -> None:
    """update_branch_counts(): a path ended; checkpoints all of whose branches ended become usable."""
    while state is not None:
        state.branches -= 1
        if state.branches:
            return
        _exit_scc(env, state)
        parent = state.parent
        _maybe_free(env, state)
        state = parent


def _maybe_free(env: Env, state: State) -> None:
    if state.evicted and not state.branches and not _incomplete(env, state):
        env.free_list_size -= 1
        state.evicted = False


# --- is_state_visited -------------------------------------------------------------------------------------------------


def _bucket(env: Env, insn_idx: int, state: State) -> list[State]:
    """explored_state(): checkpoints are hashed by instruction and call site; others may share the list."""
    return env.explored.setdefault((insn_idx ^ state.frame.callsite & R.U32_MAX) % len(env.insns), [])


def _clean_live_states(env: Env, insn_idx: int, cur: State) -> None:
    """clean_live_states(): forget what nobody reads, in finished states of this place."""
    for state in _bucket(env, insn_idx, cur):
        if state.insn_idx != insn_idx or state.branches or state.cleaned:
            continue
        if not _same_callsites(state, cur) or _incomplete(env, state):
            continue
        state.cleaned = True
        env.liveness.query(state)
        for i, frame in enumerate(state.frames):
            live = env.aux[state.frame_insn_idx(i)].live_regs_before
            for r in range(10):
                if not live >> r & 1:
                    frame.regs[r].mark_not_init()
            for spi, slot in enumerate(frame.stack):
                if not env.liveness.slot_alive(i, spi):
                    slot.kinds = bytearray(8)
                    slot.spilled.mark_not_init()


def _same_callsites(a: State, b: State) -> bool:
    return a.curframe == b.curframe and all(
        x.callsite == y.callsite for x, y in zip(a.frames, b.frames, strict=True)
    )


def _maybe_looping(old: State, cur: State) -> bool:
    if old.curframe != cur.curframe:
        return False
    return all(
        a.type == b.type and a.id == b.id and a.ref_obj_id == b.ref_obj_id and a.exact_key() == b.exact_key()
        for a, b in zip(old.frame.regs, cur.frame.regs, strict=True)
    )


def _iter_depths_differ(old: State, cur: State) -> bool:
    """iter_active_depths_differ()."""
    for fr in range(old.curframe, -1, -1):
        for spi, slot in enumerate(old.frames[fr].stack):
            if slot.kinds[0] == STACK_ITER and slot.spilled.iter_state == ITER_ACTIVE:
                if cur.frames[fr].stack[spi].spilled.iter_depth != slot.spilled.iter_depth:
                    return True
    return False


def _iter_is_active(env: Env, cur: State) -> bool:
    """The iterator that R1 points to is in the active state."""
    reg = cur.frame.regs[1]
    spi = (-(reg.off + reg.var_off.value) - 1 & R.U64_MAX) // 8 if reg.type == R.PTR_TO_STACK else 0
    return env.func(reg).stack[spi].spilled.iter_state == ITER_ACTIVE


class _Verdict(Enum):
    MISS = 0
    HIT = 1
    LOOP_HIT = 2


def _compare_unfinished(env: Env, sl: State, cur: State, insn_idx: int) -> tuple[_Verdict, bool]:
    """Compare with a checkpoint on this very path: (verdict, whether the new-state thresholds apply)."""
    if sl.frame.in_async_callback and sl.frame.async_entry_cnt != cur.frame.async_entry_cnt:
        return _Verdict.MISS, True
    aux = env.aux[insn_idx]
    if aux.is_iter_next:
        if states_equal(env, sl, cur, Exact.RANGE_WITHIN) and _iter_is_active(env, cur):
            return _Verdict.LOOP_HIT, True
        return _Verdict.MISS, True
    if kinds.is_may_goto(env.insns[insn_idx]):
        if sl.may_goto_depth != cur.may_goto_depth and states_equal(env, sl, cur, Exact.RANGE_WITHIN):
            return _Verdict.LOOP_HIT, True
    if aux.calls_callback:
        if states_equal(env, sl, cur, Exact.RANGE_WITHIN):
            return _Verdict.HIT, True
        return _Verdict.MISS, True
    if (
        _maybe_looping(sl, cur)
        and states_equal(env, sl, cur, Exact.EXACT)
        and not _iter_depths_differ(sl, cur)
        and sl.may_goto_depth == cur.may_goto_depth
        and sl.callback_unroll_depth == cur.callback_unroll_depth
    ):
        env.verbose_line(insn_idx, "; ")
        env.verbose(f"infinite loop detected at insn {insn_idx}\ncur state:")
        env.print_state(cur, cur.curframe)
        env.verbose("old state:")
        env.print_state(sl, cur.curframe)
        from kernel_model.bpf.verifier.errors import Reject

        raise Reject(22, f"infinite loop detected at insn {insn_idx}")
    return _Verdict.MISS, True


def is_state_visited(env: Env, insn_idx: int) -> bool:
    """is_state_visited(): True where the path may stop here; else it may have become a new checkpoint."""
    cur = env.cur
    aux = env.aux[insn_idx]
    forced = env.test_state_freq or aux.force_checkpoint or len(cur.jumps) > 40
    jumps, insns = env.jmps_processed - env.prev_jmps_processed, env.insn_processed - env.prev_insn_processed
    add_new = forced or (jumps >= 2 and insns >= 8)
    _clean_live_states(env, insn_idx, cur)
    head = _bucket(env, insn_idx, cur)
    states_cnt = 0
    for sl in list(head):
        states_cnt += 1
        if sl.insn_idx != insn_idx:
            continue
        if sl.branches:
            verdict, _ = _compare_unfinished(env, sl, cur, insn_idx)
            loop = verdict is _Verdict.LOOP_HIT
            if verdict is _Verdict.MISS and not forced and jumps < 20 and insns < 100:
                add_new = False
        else:
            loop = _incomplete(env, sl)
            equal = states_equal(env, sl, cur, Exact.RANGE_WITHIN if loop else Exact.NOT_EXACT)
            verdict = _Verdict.HIT if equal else _Verdict.MISS
        if verdict is not _Verdict.MISS:
            _hit(env, sl, cur, insn_idx, loop)
            return True
        if add_new:
            sl.misses += 1
        n = 64 if aux.force_checkpoint and sl.branches > 0 else 3
        if sl.misses > sl.hits * n + n:
            head.remove(sl)
            sl.evicted = True
            env.free_list_size += 1
            env.explored_size -= 1
            _maybe_free(env, sl)
    env.max_states_per_insn = max(env.max_states_per_insn, states_cnt)
    if add_new:
        _checkpoint(env, cur, insn_idx, head)
    return False


def _hit(env: Env, sl: State, cur: State, insn_idx: int, loop: bool) -> None:
    sl.hits += 1
    if env.aux[env.insn_idx].jmp_point:
        env.push_jump(cur)
    precision.propagate(env, sl, cur)
    if loop:
        _add_backedge(env, sl, cur, insn_idx)


def _checkpoint(env: Env, cur: State, insn_idx: int, head: list[State]) -> None:
    """Remember the current state; the path goes on as its child."""
    env.total_states += 1
    env.explored_size += 1
    env.update_peak_states()
    env.prev_jmps_processed = env.jmps_processed
    env.prev_insn_processed = env.insn_processed
    precision.mark_all_scalars_imprecise(cur)
    new = cur.copy()
    new.insn_idx = insn_idx
    _enter_scc(env, new)
    cur.parent = new
    cur.first_insn_idx = insn_idx
    cur.dfs_depth = new.dfs_depth + 1
    cur.jumps = []
    head.insert(0, new)


def find_prev_entry(env: Env, cur: State | None, insn_idx: int) -> State | None:
    """find_prev_entry(): an unfinished checkpoint of this instruction on the current path."""
    for sl in _bucket(env, insn_idx, env.cur):
        if sl.branches and sl.insn_idx == insn_idx and cur is not None:
            if _same_callsites(sl, cur) and sl.dfs_depth < cur.dfs_depth:
                return sl
    return None


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


__all__ = ["STACK_ZERO", "find_prev_entry", "is_state_visited", "states_equal", "update_branch_counts",
           "widen_imprecise_scalars"]  # fmt: skip
