"""Calls of kernel functions: may they be called here, are the arguments what their names and types say, what returns.

Mirrors check_kfunc_call(), check_kfunc_args() and fetch_kfunc_meta() (kernel/bpf/verifier.c, 6.18) for the kfuncs of
kernel_model/bpf/kfunc_ids.py. Leaves out acquire and release, BTF pointers, dynptrs, graph nodes, locks and irq flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch.bpf_isa import Insn
from kernel_model.bpf.kfunc_ids import (
    KF_ARENA_ARG1,
    KF_ARENA_ARG2,
    KF_ARENA_RET,
    KF_ITER_DESTROY,
    KF_ITER_NEW,
    KF_ITER_NEXT,
    KF_RCU,
    KF_RCU_PROTECTED,
    KF_RET_NULL,
    KF_SLEEPABLE,
    KF_TRUSTED_ARGS,
    kfunc_flags,
)
from kernel_model.bpf.program import MapType
from kernel_model.bpf.verifier import iters
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.btfview import BtfView
from kernel_model.bpf.verifier.kinds import CallTraits
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.result import KfuncCall
from kernel_model.types import BtfType, Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_BPF_F_RDONLY_PROG = 1 << 7
_ITER_FLAGS = KF_ITER_NEW | KF_ITER_NEXT | KF_ITER_DESTROY


@dataclass(frozen=True, slots=True)
class _Meta:
    """bpf_kfunc_call_arg_meta: the function called."""

    btf: BtfView
    btf_id: int
    name: str
    flags: int
    proto: BtfType


def _fetch(env: Env, insn: Insn) -> _Meta | None:
    """fetch_kfunc_meta(): None for an id that is no function programs may call."""
    btf = env.vmlinux
    proto = btf.func_proto(insn.imm) if btf is not None else None
    if btf is None or proto is None:
        return None
    name = btf.name(insn.imm)
    flags = kfunc_flags(name, env.profile)
    return None if flags is None else _Meta(btf, insn.imm, name, flags, proto)


def fill_traits(env: Env, insn: Insn, traits: CallTraits) -> None:
    """What control-flow analysis must know; unknown functions keep the cautious defaults."""
    meta = _fetch(env, insn)
    if meta is None:
        return
    traits.num_params = len(meta.proto.params)
    traits.might_sleep = bool(meta.flags & KF_SLEEPABLE)
    traits.iter_next = bool(meta.flags & KF_ITER_NEXT)


def check(env: Env, insn: Insn) -> None:
    """check_kfunc_call() of the current instruction."""
    if not insn.imm:
        return  # a weak symbol that the kernel lacks: an error only where it is reached at run time
    meta = _fetch(env, insn)
    if meta is None:
        known = env.vmlinux is not None and env.vmlinux.func_proto(insn.imm) is not None
        name = env.vmlinux.name(insn.imm) if known and env.vmlinux is not None else f"#{insn.imm}"
        env.access(f"calling kernel function {name} is not allowed")
    if meta.flags & KF_SLEEPABLE and not env.in_sleepable:
        env.access(f"program must be sleepable to call sleepable kfunc {meta.name}")
    iterator = _Arguments(env, meta).check()
    _regions(env, meta)
    if meta.flags & KF_RCU_PROTECTED and not env.in_rcu_cs:
        env.access(f"kernel func {meta.name} requires RCU critical section protection")
    env.clear_caller_saved(env.cur.frame)
    _set_result(env, meta)
    arena = bool(meta.flags & (KF_ARENA_RET | KF_ARENA_ARG1 | KF_ARENA_ARG2))
    call = KfuncCall(meta.btf_id, meta.name, meta.flags, arena)
    env.cur_aux.kfunc = env.kfuncs[meta.btf_id] = call
    if iterator is not None and meta.flags & KF_ITER_NEXT:
        iters.next_call(env, iterator)


# --- arguments ----------------------------------------------------------------------------------------------------


class _Arguments:
    """check_kfunc_args(): one call's arguments, left to right."""

    def __init__(self, env: Env, meta: _Meta) -> None:
        self.env = env
        self.meta = meta
        self.iterator: iters.IterSlot | None = None

    def check(self) -> iters.IterSlot | None:
        """All of them; where the iterator lies, if one was passed."""
        params = self.meta.proto.params
        if len(params) > 5:
            self.env.inval(f"Function {self.meta.name} has {len(params)} > 5 args")
        i = 0
        while i < len(params):
            i += self._one(i)
        return self.iterator

    def _one(self, i: int) -> int:
        """Check argument `i`; how many arguments that took care of."""
        env, (name, type_id) = self.env, self.meta.proto.params[i]
        regno = i + 1
        if name.endswith(("__ign", "__prog")):
            return 1
        reg = env.reg_read(regno)
        if self.meta.btf.is_scalar(type_id):
            if reg.type != R.SCALAR_VALUE:
                env.inval(f"R{regno} is not a scalar")
            return 1
        if self.meta.btf.resolve(type_id).kind is not Kind.PTR:
            env.inval(f"Unrecognized arg#{i} type {self.meta.btf.name(type_id)}")
        trusted = self.meta.flags & (KF_TRUSTED_ARGS | KF_RCU)
        if trusted and (reg.is_null() or reg.maybe_null) and not name.endswith("__nullable"):
            env.access(f"Possibly NULL pointer passed to trusted arg{i}")
        return self._pointer(i, regno, reg, name, type_id)

    def _pointer(self, i: int, regno: int, reg: Reg, name: str, type_id: int) -> int:
        env, btf = self.env, self.meta.btf
        target = btf.pointee(type_id)
        if name.endswith("__map"):
            self._map(regno, reg)
        elif self.meta.flags & _ITER_FLAGS and i == 0 and target is not None and target.name.startswith(iters.PREFIX):
            kind = target.name.removeprefix(iters.PREFIX)
            self.iterator = iters.process_arg(env, regno, self.meta.flags, kind, target.size)
        elif name.endswith("__str"):
            self._const_string(i, regno, reg)
        elif self._sized_by_next(i):
            self._memory(i, regno)
            return 2
        else:
            what = target.name if target is not None else "pointer"
            env.not_modelled(f"argument {i} of kernel function {self.meta.name}: {what}")
        return 1

    def _map(self, regno: int, reg: Reg) -> None:
        """KF_ARG_PTR_TO_MAP."""
        env = self.env
        if reg.type != R.CONST_PTR_TO_MAP or reg.map is None:
            env.inval(f"pointer in R{regno} isn't map pointer")
        if reg.map.type == MapType.ARENA and env.arena_map is None:
            env.arena_map = next(i for i, known in enumerate(env.maps) if known is reg.map)

    def _sized_by_next(self, i: int) -> bool:
        params = self.meta.proto.params
        return i + 1 < len(params) and params[i + 1][0].endswith(("__sz", "__szk"))

    def _memory(self, i: int, regno: int) -> None:
        """KF_ARG_PTR_TO_MEM_SIZE: a buffer and, in the next argument, its length."""
        from kernel_model.bpf.verifier import mem  # it needs Env, which needs the modules that need this one

        size = self.env.reg_read(regno + 1)
        if size.type != R.SCALAR_VALUE:
            self.env.inval(f"R{regno + 1} is not a scalar")
        mem.check_mem_size(self.env, regno, regno + 1)

    def _const_string(self, i: int, regno: int, reg: Reg) -> None:
        """KF_ARG_PTR_TO_CONST_STR: check_reg_const_str()."""
        env = self.env
        if reg.type != R.PTR_TO_MAP_VALUE:
            env.inval(f"arg#{i} doesn't point to a const string")
        if not reg.map.map_flags & _BPF_F_RDONLY_PROG or not getattr(reg.map, "frozen", True):
            env.access(f"R{regno} does not point to a readonly map'")
        if reg.var_off.mask:
            env.access(f"R{regno} is not a constant address'")
        start = reg.off + reg.var_off.value
        if not 0 <= start < reg.map.value_size:
            env.access(f"R{regno} min value is outside of the allowed memory range")
        read = getattr(reg.map, "direct_read", None)
        text = read(start, reg.map.value_size - start) if read is not None else None
        if text is not None and b"\0" not in text:
            env.inval("string is not zero-terminated")


# --- regions ------------------------------------------------------------------------------------------------------


def _regions(env: Env, meta: _Meta) -> None:
    """RCU read sections, then preemption-disabled ones."""
    state, sleeps = env.cur, bool(meta.flags & KF_SLEEPABLE)
    lock, unlock = meta.name == "bpf_rcu_read_lock", meta.name == "bpf_rcu_read_unlock"
    if state.active_rcu_lock:
        if lock:
            env.inval(f"nested rcu read lock (kernel function {meta.name})")
        if unlock:
            _leave_rcu(env)
        elif sleeps:
            env.access(f"kernel func {meta.name} is sleepable within rcu_read_lock region")
    elif unlock:
        env.inval(f"unmatched rcu read unlock (kernel function {meta.name})")
    elif lock:
        state.active_rcu_lock = True
    disable, enable = meta.name == "bpf_preempt_disable", meta.name == "bpf_preempt_enable"
    if disable:
        state.active_preempt_locks += 1
    elif enable:
        if not state.active_preempt_locks:
            env.inval(f"unmatched attempt to enable preemption (kernel function {meta.name})")
        state.active_preempt_locks -= 1
    elif sleeps and state.active_preempt_locks:
        env.access(f"kernel func {meta.name} is sleepable within non-preemptible region")
    if sleeps and state.active_irq_id:
        env.access(f"kernel func {meta.name} is sleepable within IRQ-disabled region")


def _leave_rcu(env: Env) -> None:
    """Pointers that RCU protected are untrusted from here on."""
    for reg in env.cur.all_regs():
        if reg.type & R.MEM_RCU:
            reg.type = reg.type & ~(R.MEM_RCU | R.PTR_MAYBE_NULL) | R.PTR_UNTRUSTED
    env.cur.active_rcu_lock = False


# --- the result ---------------------------------------------------------------------------------------------------


def _set_result(env: Env, meta: _Meta) -> None:
    """What R0 is: nothing for void; a scalar, also for `void *`; memory of the type pointed to, possibly NULL."""
    result, r0 = meta.proto.type_id, env.regs[0]
    if meta.btf.is_void(result):
        return
    target = meta.btf.pointee(result)
    if target is None or target.id == 0:
        if target is None and not meta.btf.is_scalar(result):
            env.not_modelled(f"result of kernel function {meta.name}")
        r0.mark_unknown()
        return
    if target.kind not in (Kind.INT, Kind.ENUM, Kind.ENUM64):
        env.not_modelled(f"kernel function {meta.name} returns a pointer to {target.name or 'a type'}")
    r0.mark_known_zero(R.PTR_TO_MEM)
    r0.mem_size = target.size
    if meta.flags & KF_RET_NULL:
        r0.type |= R.PTR_MAYBE_NULL
        r0.id = env.new_id()
