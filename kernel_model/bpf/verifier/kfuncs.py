"""Calls of kernel functions: may they be called here, and what returns.

Mirrors check_kfunc_call() and fetch_kfunc_meta() (kernel/bpf/verifier.c, 6.18) for the kfuncs of
kernel_model/bpf/kfunc_ids.py. Leaves out callbacks, locks and objects of the program's own BTF.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch.bpf_isa import Insn
from kernel_model.bpf.kfunc_ids import (
    KF_ACQUIRE,
    KF_ARENA_ARG1,
    KF_ARENA_ARG2,
    KF_ARENA_RET,
    KF_FORBID_FAULT,
    KF_ITER_NEXT,
    KF_RCU_PROTECTED,
    KF_RELEASE,
    KF_RET_NULL,
    KF_SLEEPABLE,
    kfunc_flags,
)
from kernel_model.bpf.verifier import iters, kfunc_args, refs, regions
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.kfunc_args import Meta
from kernel_model.bpf.verifier.kinds import CallTraits
from kernel_model.bpf.verifier.result import KfuncCall
from kernel_model.types import Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env


def _fetch(env: Env, insn: Insn) -> Meta | None:
    """fetch_kfunc_meta(): None for an id that is no function programs may call."""
    btf = env.vmlinux
    proto = btf.func_proto(insn.imm) if btf is not None else None
    if btf is None or proto is None:
        return None
    name = btf.name(insn.imm)
    flags = kfunc_flags(name, env.profile)
    return None if flags is None else Meta(btf, insn.imm, name, flags, proto)


def fill_traits(env: Env, insn: Insn, traits: CallTraits) -> None:
    """What control-flow analysis must know; unknown functions keep the cautious defaults."""
    meta = _fetch(env, insn)
    if meta is None:
        return
    traits.num_params = len(meta.proto.params)
    traits.might_sleep = bool(meta.flags & KF_SLEEPABLE)
    traits.iter_next = bool(meta.flags & KF_ITER_NEXT)


def spin_allowed(env: Env, insn: Insn) -> bool:
    """kfunc_spin_allowed(): may be called with a bpf_spin_lock held."""
    meta = _fetch(env, insn)
    return meta is not None and meta.name.startswith("bpf_iter_num_")


def check(env: Env, insn: Insn) -> None:
    """check_kfunc_call() of the current instruction."""
    if not insn.imm:
        return  # a weak symbol that the kernel lacks: an error only where it is reached at run time
    meta = _fetch(env, insn)
    if meta is None:
        known = env.vmlinux is not None and env.vmlinux.func_proto(insn.imm) is not None
        name = env.vmlinux.name(insn.imm) if known and env.vmlinux is not None else f"#{insn.imm}"
        env.access(f"calling kernel function {name} is not allowed")
    sleeps = bool(meta.flags & KF_SLEEPABLE)
    if sleeps and not env.in_sleepable:
        env.access(f"program must be sleepable to call sleepable kfunc {meta.name}")
    kfunc_args.check(env, meta)
    regions.check_kfunc(env, meta.name, sleeps)
    if meta.flags & KF_RCU_PROTECTED and not env.in_rcu_cs:
        env.access(f"kernel func {meta.name} requires RCU critical section protection")
    _release(env, meta)
    env.clear_caller_saved(env.cur.frame)
    _set_result(env, meta)
    arena = bool(meta.flags & (KF_ARENA_RET | KF_ARENA_ARG1 | KF_ARENA_ARG2))
    call = KfuncCall(meta.btf_id, meta.name, meta.flags, arena)
    env.cur_aux.kfunc = env.kfuncs[meta.btf_id] = call
    if meta.iterator is not None and meta.flags & KF_ITER_NEXT:
        iters.next_call(env, meta.iterator)


def _release(env: Env, meta: Meta) -> None:
    """KF_RELEASE: the reference that the argument is, or the element of the iterator that it is."""
    if not meta.flags & KF_RELEASE:
        return
    if meta.iterator is not None:
        if not iters.release_element(env, iters.slot_reg(env, meta.iterator)):
            env.inval(f"iterator passed to {meta.name} has no acquired reference to release")
    elif not refs.release(env, env.regs[meta.release_regno].ref_obj_id):
        env.inval(f"kfunc {meta.name}#{meta.btf_id} reference has not been acquired before")


def _set_result(env: Env, meta: Meta) -> None:
    """What R0 is: nothing for void; a scalar, also for `void *`; memory or a kernel object, possibly NULL."""
    result, r0 = meta.proto.type_id, env.regs[0]
    if meta.btf.is_void(result):
        return
    target = meta.btf.pointee(result)
    record = target is not None and target.kind in (Kind.STRUCT, Kind.UNION)
    if meta.flags & KF_ACQUIRE and not record:
        env.inval("acquire kernel function does not return PTR_TO_BTF_ID")
    if target is None or target.id == 0:
        if target is None and not meta.btf.is_scalar(result):
            env.not_modelled(f"result of kernel function {meta.name}")
        r0.mark_unknown()
        return
    if record:
        r0.mark_known_zero(R.PTR_TO_BTF_ID | _trust(env, meta))
        r0.btf, r0.btf_id = meta.btf, target.id
    else:
        size = meta.btf.size(target.id)
        if not size:
            env.inval(f"kernel function {meta.name} returns pointer type {target.kind.name} {target.name} "
                      "is not supported")
        r0.mark_known_zero(R.PTR_TO_MEM | R.MEM_RDONLY)
        r0.mem_size = size
        r0.ref_obj_id = meta.ref_obj_id
    if meta.flags & KF_RET_NULL:
        r0.type |= R.PTR_MAYBE_NULL
        r0.id = env.new_id()
    if meta.flags & KF_ACQUIRE:
        _acquire(env, meta)


def _trust(env: Env, meta: Meta) -> int:
    """How far a kernel object that a function gives is trusted: as its iterator, or as its flags and the kernel say."""
    if meta.iterator is not None and meta.flags & KF_ITER_NEXT:
        rcu = iters.slot_reg(env, meta.iterator).type & R.MEM_RCU
        return rcu or R.PTR_TRUSTED
    if meta.flags & KF_RCU_PROTECTED:
        return R.MEM_RCU
    return R.PTR_TRUSTED if env.profile.trusted_results else 0


def _acquire(env: Env, meta: Meta) -> None:
    """KF_ACQUIRE: R0 is a reference; an iterator gives back its last element's and keeps this one's."""
    r0 = env.regs[0]
    iterator = iters.slot_reg(env, meta.iterator) if meta.iterator is not None and meta.flags & KF_ITER_NEXT else None
    if iterator is not None:
        iters.release_element(env, iterator)
    ref_id = refs.acquire(env, forbid_fault=bool(meta.flags & KF_FORBID_FAULT))
    if meta.flags & KF_RET_NULL:
        r0.id = ref_id
    r0.ref_obj_id = ref_id
    if iterator is not None:
        iterator.id = ref_id
