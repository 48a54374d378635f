"""Loops while they are walked: visits of strongly connected components, and the paths that came back in them.

Mirrors struct bpf_scc_visit, maybe_enter_scc(), maybe_exit_scc(), add_scc_backedge(), propagate_backedges() and
update_branch_counts() (kernel/bpf/verifier.c, 6.18). Which instructions form a component is found in cfg.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import precision
from kernel_model.bpf.verifier.state import State

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

MAX_BACKEDGE_ITERS = 64


@dataclass(slots=True)
class SccVisit:
    """One stay in a loop, by call chain: who entered it, and the paths that came back to an older state."""

    entry_state: State | None
    backedges: list[State]


def _compute_scc_callchain(env: Env, state: State) -> tuple[int, ...] | None:
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


def maybe_enter_scc(env: Env, state: State) -> None:
    """maybe_enter_scc(): the new checkpoint `state` opens a visit, unless one of the same call chain is open."""
    chain = _compute_scc_callchain(env, state)
    if chain is None:
        return
    visit = env.scc_visits.setdefault(chain, SccVisit(None, []))
    if visit.entry_state is None:
        visit.entry_state = state
        if env.log2:
            env.verbose(f"SCC enter {_chain_text(chain)}\n")


def _maybe_exit_scc(env: Env, state: State) -> None:
    chain = _compute_scc_callchain(env, state)
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


def incomplete_read_marks(env: Env, state: State) -> bool:
    """incomplete_read_marks(): the state's loop still has backedges whose marks are not known."""
    chain = _compute_scc_callchain(env, state)
    visit = env.scc_visits.get(chain) if chain is not None else None
    return visit is not None and bool(visit.backedges)


def add_scc_backedge(env: Env, equal: State, cur: State, insn_idx: int) -> None:
    """add_scc_backedge(): the path `cur` ends at `equal`, whose marks are complete only when the loop is left."""
    chain = _compute_scc_callchain(env, equal)
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
        _maybe_exit_scc(env, state)
        parent = state.parent
        maybe_free_verifier_state(env, state)
        state = parent


def maybe_free_verifier_state(env: Env, state: State) -> None:
    """maybe_free_verifier_state(): an evicted checkpoint that nobody needs any more leaves the free list."""
    if state.evicted and not state.branches and not incomplete_read_marks(env, state):
        env.free_list_size -= 1
        state.evicted = False
