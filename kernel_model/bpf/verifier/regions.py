"""Regions in which a program must not sleep: RCU, preemption off, interrupts off, a lock held, and v5's nofault.

Mirrors in_sleepable_context(), non_sleepable_context_description() and the region part of check_kfunc_call()
(kernel/bpf/verifier.c). Linux kernel commits a0d06cf102e4, cd9840c413e3 and a2542a91aafd gave helpers, kfuncs and
global functions one text each (Profile.consolidated_sleep_messages); before, every region was tested by itself, and a
held lock only through the calls that it forbids. "nofault region" is of the series KF_FORBID_FAULT v5
(20260226161500.775715-1), never merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.state import STACK_ITER

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env


def non_sleepable_context(env: Env) -> str | None:
    """non_sleepable_context_description(): the first reason in the kernel's order; None in a sleepable context."""
    cur = env.cur
    for held, text in (
        (cur.active_rcu_locks, "rcu_read_lock region"),
        (cur.active_preempt_locks, "non-preemptible region"),
        (cur.active_irq_id, "IRQ-disabled region"),
        (cur.active_locks, "lock region"),
        (cur.forbid_fault_count, "nofault region"),
        (not env.in_sleepable, "non-sleepable prog"),
    ):
        if held:
            return text
    return None


def _single_region(env: Env) -> str | None:
    """Which of the regions that were tested one by one before the texts were consolidated is open."""
    where = non_sleepable_context(env)
    return where if where in ("rcu_read_lock region", "non-preemptible region", "IRQ-disabled region") else None


def check_helper(env: Env, name: str, number: int) -> None:
    """check_helper_call(): a helper that might sleep."""
    where = non_sleepable_context(env) if env.profile.consolidated_sleep_messages else _single_region(env)
    if not env.profile.consolidated_sleep_messages and not env.in_sleepable:
        env.inval("helper call might sleep in a non-sleepable prog")
    if where is not None:
        env.inval(f"sleepable helper {name}#{number} in {where}")


def check_global(env: Env, name: str) -> None:
    """check_func_call(): a global function that might sleep."""
    where = non_sleepable_context(env)
    if env.profile.consolidated_sleep_messages:
        if where is not None:
            env.inval(f"sleepable global function {name}() called in {where}")
    elif where is not None and where != "lock region":  # a held lock was refused before
        env.inval("global functions that may sleep are not allowed in non-sleepable context,\n"
                  "i.e., in a RCU/IRQ/preempt-disabled section, or in\na non-sleepable BPF program context")


def check_kfunc(env: Env, name: str, sleeps: bool) -> None:
    """check_kfunc_call(): enter or leave what `name` enters or leaves, then may it sleep here."""
    separate = sleeps and not env.profile.consolidated_sleep_messages
    _rcu(env, name, separate)
    _preempt(env, name, separate)
    if separate and env.cur.active_irq_id:
        env.access(f"kernel func {name} is sleepable within IRQ-disabled region")
    if sleeps and env.profile.consolidated_sleep_messages:
        where = non_sleepable_context(env)
        if where is not None:
            env.access(f"kernel func {name} is sleepable within {where}")


def _rcu(env: Env, name: str, sleeps: bool) -> None:
    state = env.cur
    if name == "bpf_rcu_read_lock":
        if state.active_rcu_locks and not env.profile.nested_rcu:
            env.inval(f"nested rcu read lock (kernel function {name})")
        state.active_rcu_locks += 1
    elif name == "bpf_rcu_read_unlock":
        if not state.active_rcu_locks:
            env.inval(f"unmatched rcu read unlock (kernel function {name})")
        state.active_rcu_locks -= 1
        if not state.active_rcu_locks:
            _leave_rcu(env)
    elif sleeps and state.active_rcu_locks:
        env.access(f"kernel func {name} is sleepable within rcu_read_lock region")


def _leave_rcu(env: Env) -> None:
    """Pointers that RCU protected are untrusted from here on, those that iterators give too."""
    slots = [slot.spilled for frame in env.cur.frames for slot in frame.stack if slot.kinds[7] == STACK_ITER]
    for reg in [*env.cur.all_regs(), *slots]:
        if reg.type & R.MEM_RCU:
            reg.type = reg.type & ~(R.MEM_RCU | R.PTR_MAYBE_NULL) | R.PTR_UNTRUSTED


def _preempt(env: Env, name: str, sleeps: bool) -> None:
    state = env.cur
    if name == "bpf_preempt_disable":
        state.active_preempt_locks += 1
    elif name == "bpf_preempt_enable":
        if not state.active_preempt_locks:
            env.inval(f"unmatched attempt to enable preemption (kernel function {name})")
        state.active_preempt_locks -= 1
    elif sleeps and state.active_preempt_locks:
        env.access(f"kernel func {name} is sleepable within non-preemptible region")
