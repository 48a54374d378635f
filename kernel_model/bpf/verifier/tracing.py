"""Tracing programs: what they attach to, what their context holds, what they may return.

Mirrors check_attach_btf_id(), bpf_check_attach_target(), check_return_code() (kernel/bpf/verifier.c), btf_ctx_access()
(kernel/bpf/btf.c) and raw_tp_prog_is_valid_access() (kernel/trace/bpf_trace.c), of 6.18. Left out: freplace, LSM hooks'
own rules, arguments that a tracepoint marks as nullable, return values of fexit and fmod_ret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.bpf.object.secdef import (
    BPF_LSM_MAC,
    BPF_MODIFY_RETURN,
    BPF_TRACE_FENTRY,
    BPF_TRACE_FEXIT,
    BPF_TRACE_ITER,
    BPF_TRACE_RAW_TP,
)
from kernel_model.bpf.program import ProgType
from kernel_model.bpf.verifier import precision
from kernel_model.bpf.verifier import regs as R
from kernel_model.types import BtfType, Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_FUNCTIONS = (BPF_TRACE_FENTRY, BPF_TRACE_FEXIT, BPF_MODIFY_RETURN)
_TRACEPOINT = "btf_trace_"
_WRAPPERS = ("__x64_sys_", "__arm64_sys_")  # SYSCALL_DEFINE puts ALLOW_ERROR_INJECTION() on each
_MAX_ARGS, _MAX_REG_ARGS = 12, 5


def check_attach(env: Env) -> None:
    """check_attach_btf_id(): may it sleep there, does the target exist; fills env.attach_proto and attach_name."""
    prog = env.prog
    if prog.type is ProgType.SYSCALL:
        if not prog.sleepable:
            env.inval("Syscall programs can only be sleepable")
        return
    tracing = prog.type is ProgType.TRACING
    can_sleep = tracing and prog.expected_attach_type in (*_FUNCTIONS, BPF_TRACE_ITER) or prog.type in (
        ProgType.LSM, ProgType.KPROBE, ProgType.STRUCT_OPS)
    if prog.sleepable and not can_sleep:
        env.inval("Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable")
    if not tracing:
        return
    if not prog.attach_btf_id:
        env.inval("Tracing programs must provide btf_id")
    _target(env)
    if prog.sleepable and prog.expected_attach_type in _FUNCTIONS and not env.attach_name.startswith(_WRAPPERS):
        env.inval(f"{env.attach_name} is not sleepable")


def _target(env: Env) -> None:
    """bpf_check_attach_target(): the prototype behind attach_btf_id."""
    btf, number = env.vmlinux, env.prog.attach_btf_id
    if btf is None or number >= btf.btf.type_count:
        env.inval(f"attach_btf_id {number} is invalid")
    target = btf.type(number)
    name = target.name
    if not name:
        env.inval(f"attach_btf_id {number} doesn't have a name")
    if env.prog.expected_attach_type == BPF_TRACE_RAW_TP:
        if target.kind is not Kind.TYPEDEF:
            env.inval(f"attach_btf_id {number} is not a typedef")
        if not name.startswith(_TRACEPOINT):
            env.inval(f"attach_btf_id {number} points to wrong type name {name}")
        name = name.removeprefix(_TRACEPOINT)
        named = btf.find(f"__bpf_trace_{name}", Kind.FUNC)
        proto = btf.type(named.type_id) if named is not None else btf.type(btf.type(target.type_id).type_id)
    else:
        if target.kind is not Kind.FUNC:
            env.inval(f"attach_btf_id {number} is not a function")
        proto = btf.type(target.type_id)
    if proto.kind is not Kind.FUNC_PROTO:
        env.inval(f"attach_btf_id {number} is not a function")
    env.attach_name, env.attach_proto = name, proto


def context(env: Env, off: int, size: int, write: bool, dst: int | None) -> bool:
    """A load of 64-bit argument words; False where no such access is valid."""
    limit = 8 * _MAX_ARGS
    if write or not 0 <= off < limit or off % size:
        return False
    if env.prog.type is ProgType.RAW_TRACEPOINT or env.attach_proto is None:
        kind, target = R.SCALAR_VALUE, 0
    else:
        found = _argument(env, env.attach_proto, off, size)
        if found is None:
            return False
        kind, target = found
    if dst is None:
        return True
    reg = env.regs[dst]
    if kind == R.SCALAR_VALUE:
        reg.mark_unknown()
    else:
        reg.mark_known_zero(kind)
        reg.btf, reg.btf_id = env.vmlinux, target
    return True


def _argument(env: Env, proto: BtfType, off: int, size: int) -> tuple[int, int] | None:
    """btf_ctx_access(): (register type, BTF id) of the argument at `off`; None, with the reason in the log."""
    btf, name = env.vmlinux, env.attach_name
    assert btf is not None
    if off % 8:
        env.verbose(f"func '{name}' offset {off} is not multiple of 8\n")
        return None
    tracepoint = env.prog.expected_attach_type == BPF_TRACE_RAW_TP
    params = list(proto.params)[1 if tracepoint else 0 :]  # a tracepoint's first is its probe's data
    arg = off // 8
    if arg == len(params) and env.prog.expected_attach_type in (BPF_TRACE_FEXIT, BPF_MODIFY_RETURN, BPF_LSM_MAC):
        env.not_modelled("the return value in the context of a program behind a function")
    if arg >= len(params):
        env.verbose(f"func '{name}' doesn't have {arg + 1}-th argument\n")
        return None
    type_id = params[arg][1]
    kind = btf.resolve(type_id)
    if kind.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.STRUCT):
        return R.SCALAR_VALUE, 0
    if kind.kind is not Kind.PTR:
        env.verbose(f"func '{name}' arg{arg} '{btf.name(type_id)}' has type {kind.kind.name}. "
                    "Only pointer access is allowed\n")
        return None
    if size != 8:
        env.verbose(f"func '{name}' size {size} must be 8\n")
        return None
    target = btf.resolve(kind.type_id) if kind.type_id else None
    if target is None or target.kind in (Kind.INT, Kind.UNKN):
        return R.SCALAR_VALUE, 0
    if target.kind not in (Kind.STRUCT, Kind.UNION):
        env.verbose(f"func '{name}' arg{arg} type {target.kind.name} is not a struct\n")
        return None
    env.verbose(f"func '{name}' arg{arg} has btf_id {target.id} type {target.kind.name} '{target.name}'\n")
    return R.PTR_TO_BTF_ID | (R.PTR_TRUSTED if tracepoint else 0), target.id


def check_return(env: Env) -> None:
    """check_return_code(): programs at a function's entry or exit return 0, global functions a scalar."""
    prog = env.prog
    if env.cur.frame.subprogno:
        if env.regs[0].type != R.SCALAR_VALUE:
            env.inval(f"At subprogram exit the register R0 is not a scalar value ({R.type_str(env.regs[0].type)})")
        return
    if prog.type is not ProgType.TRACING:
        return
    if prog.expected_attach_type in (BPF_TRACE_FENTRY, BPF_TRACE_FEXIT):
        high = 0
    elif prog.expected_attach_type == BPF_TRACE_ITER:
        high = 1
    else:
        return
    reg = env.regs[0]
    if reg.type != R.SCALAR_VALUE:
        env.inval(f"At program exit the register R0 is not a known value ({R.type_str(reg.type)})")
    precision.mark(env, 0)
    if reg.smin >= 0 and reg.smax <= high:
        return
    known = f" smin={reg.smin}" if reg.smin > R.S64_MIN else ""
    known += f" smax={reg.smax}" if reg.smax < R.S64_MAX else ""
    env.inval(f"At program exit the register R0 has{known or ' unknown scalar value'} should have been in [0, {high}]")
