"""References that a program holds, and what must not be held at its end.

Mirrors acquire_reference(), release_reference(), check_resource_leak() and is_trusted_reg() (kernel/bpf/verifier.c,
6.18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import REF_PTR, Ref, State

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_TRUSTED = R.MEM_ALLOC | R.PTR_TRUSTED
_FLAGS = ~R.BASE_MASK


def is_trusted(reg: Reg) -> bool:
    """is_trusted_reg(): a referenced pointer, or one marked trusted and nothing that takes it back."""
    if reg.ref_obj_id:
        return True
    flags = reg.type & _FLAGS
    return bool(flags & _TRUSTED) and not flags & ~_TRUSTED


def is_rcu(reg: Reg) -> bool:
    """is_rcu_reg(): what it points to stays until the end of the RCU read section."""
    return bool(reg.type & R.MEM_RCU)


def acquire(env: Env, kind: int = REF_PTR, forbid_fault: bool = False) -> int:
    """acquire_reference(): a new reference taken by the current instruction; its id.

    `forbid_fault`: KF_FORBID_FAULT, nothing may fault or sleep while it is held.
    """
    ref_id = env.new_id()
    env.cur.refs.append(Ref(kind, ref_id, env.insn_idx, forbid_fault=forbid_fault))
    env.cur.forbid_fault_count += forbid_fault
    return ref_id


def drop(state: State, held: Ref) -> None:
    """release_reference_state(): the state does not hold it any more; registers are left alone."""
    state.refs.remove(held)
    state.forbid_fault_count -= held.forbid_fault


def release(env: Env, ref_obj_id: int) -> bool:
    """release_reference(): give it back and forget every register that held it; False if it was not held."""
    held = env.cur.find_ref(ref_obj_id)
    if held is None:
        return False
    drop(env.cur, held)
    for reg in env.cur.all_regs():
        if reg.ref_obj_id == ref_obj_id:
            reg.mark_unknown()
    return True


def check_leak(env: Env, prefix: str, check_lock: bool | None = None) -> None:
    """check_resource_leak(): rejects where something is still held at `prefix` ("BPF_EXIT instruction in main prog").

    Locks and regions count in the outermost frame only, unless `check_lock` says otherwise.
    """
    state = env.cur
    outermost = state.curframe == 0
    strict = outermost if check_lock is None else check_lock
    if strict and state.active_locks:
        env.inval(f"{prefix} cannot be used inside bpf_spin_lock-ed region")
    lost = [ref for ref in state.refs if ref.kind & REF_PTR] if outermost else []
    for ref in lost:
        env.verbose(f"Unreleased reference id={ref.id} alloc_insn={ref.insn_idx}\n")
    if lost:
        env.inval(f"{prefix} would lead to reference leak")
    for held, region in (
        (state.active_irq_id, "bpf_local_irq_save"),
        (state.active_rcu_locks, "bpf_rcu_read_lock"),
        (state.active_preempt_locks, "bpf_preempt_disable"),
    ):
        if strict and held:
            env.inval(f"{prefix} cannot be used inside {region}-ed region")
