"""When a path may stop because an equal one was walked before, and when a loop never ends.

Mirrors is_state_visited() and what it asks of checkpoints (kernel/bpf/verifier.c, 6.18); what makes states equal is in
states_equal.py, what loops need beyond that in scc.py.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import kinds, precision, scc
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.errors import Reject
from kernel_model.bpf.verifier.state import ITER_ACTIVE, STACK_ITER, State
from kernel_model.bpf.verifier.states_equal import Exact, states_equal

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env


def _bucket(env: Env, insn_idx: int, state: State) -> list[State]:
    """explored_state(): checkpoints are hashed by instruction and call site; others may share the list."""
    return env.explored.setdefault((insn_idx ^ state.frame.callsite & R.U32_MAX) % len(env.insns), [])


def _clean_live_states(env: Env, insn_idx: int, cur: State) -> None:
    """clean_live_states(): forget what nobody reads, in finished states of this place."""
    for state in _bucket(env, insn_idx, cur):
        if state.insn_idx != insn_idx or state.branches or state.cleaned:
            continue
        if not _same_callsites(state, cur) or scc.incomplete_read_marks(env, state):
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


def _compare_unfinished(env: Env, sl: State, cur: State, insn_idx: int) -> _Verdict:
    """Compare with a checkpoint on this very path."""
    if sl.frame.in_async_callback and sl.frame.async_entry_cnt != cur.frame.async_entry_cnt:
        return _Verdict.MISS
    aux = env.aux[insn_idx]
    if aux.is_iter_next:
        if states_equal(env, sl, cur, Exact.RANGE_WITHIN) and _iter_is_active(env, cur):
            return _Verdict.LOOP_HIT
        return _Verdict.MISS
    if kinds.is_may_goto(env.insns[insn_idx]):
        if sl.may_goto_depth != cur.may_goto_depth and states_equal(env, sl, cur, Exact.RANGE_WITHIN):
            return _Verdict.LOOP_HIT
    if aux.calls_callback:
        if states_equal(env, sl, cur, Exact.RANGE_WITHIN):
            return _Verdict.HIT
        return _Verdict.MISS
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
        raise Reject(22, f"infinite loop detected at insn {insn_idx}")
    return _Verdict.MISS


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
            verdict = _compare_unfinished(env, sl, cur, insn_idx)
            loop = verdict is _Verdict.LOOP_HIT
            if verdict is _Verdict.MISS and not forced and jumps < 20 and insns < 100:
                add_new = False
        else:
            loop = scc.incomplete_read_marks(env, sl)
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
            scc.maybe_free_verifier_state(env, sl)
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
        scc.add_scc_backedge(env, sl, cur, insn_idx)


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
    scc.maybe_enter_scc(env, new)
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
