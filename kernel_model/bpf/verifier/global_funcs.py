"""Global functions: verified once, by themselves, for any arguments that their prototype allows.

Mirrors btf_prepare_func_args() (kernel/bpf/btf.c), btf_check_subprog_call() and the state at a function's entry of
do_check_common() (kernel/bpf/verifier.c, 6.18). Left out: dynptr arguments, and contexts of program types that nothing
here loads.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from kernel_model.bpf.verifier import mem, reg_types
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.errors import Reject
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.types import BtfType, Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.btfview import BtfView
    from kernel_model.bpf.verifier.env import Env
    from kernel_model.bpf.verifier.result import Subprog

BTF_FUNC_GLOBAL = 1
_MAX_ARGS = 5
_SCALARS = (Kind.INT, Kind.ENUM, Kind.ENUM64)
_TAGS = ("arg:ctx", "arg:trusted", "arg:untrusted", "arg:nonnull", "arg:nullable", "arg:arena")


class ArgKind(Enum):
    """What a caller must pass (enum bpf_arg_type, as far as functions have them)."""

    SCALAR = "scalar"
    CTX = "ctx"
    MEM = "mem"
    ARENA = "arena"
    BTF_ID = "kernel object"
    ANY_POINTER = "untrusted"  # whatever it is: reads through it may fail


@dataclass(frozen=True, slots=True)
class ArgInfo:
    """One argument of a function (struct bpf_subprog_arg_info). Size in bytes."""

    kind: ArgKind
    mem_size: int = 0
    maybe_null: bool = False
    btf_id: int = 0  # of vmlinux


@dataclass(slots=True)
class Signature:
    """What a function's BTF promises; `error` (positive) where it promises nothing that can be used."""

    args: list[ArgInfo] = field(default_factory=list)
    error: int = 0
    reason: str = ""


def find_linkage(env: Env) -> None:
    """check_btf_func(): which functions are global."""
    for sub in env.subprogs:
        if env.btf is not None and sub.btf_func:
            sub.is_global = env.btf.type(sub.btf_func).vlen == BTF_FUNC_GLOBAL


def prepare(env: Env, sub: Subprog) -> Signature:
    """btf_prepare_func_args(): the arguments; what is wrong with a global function's goes into the log, each time."""
    result = Signature()
    assert env.btf is not None
    try:
        _collect(env, env.btf, sub, result)
    except Reject as refused:
        result.error, result.reason = refused.errno, refused.reason
    return result


def _collect(env: Env, btf: BtfView, sub: Subprog, result: Signature) -> None:
    proto = btf.func_proto(sub.btf_func)
    if proto is None:
        _bad(env, sub, "Global functions need valid BTF", errno.EFAULT)
    if len(proto.params) > _MAX_ARGS:
        _bad(env, sub, f"Global function {sub.name}() with {len(proto.params)} > {_MAX_ARGS} args. Buggy compiler.")
    if not btf.is_scalar(proto.type_id):
        _bad(env, sub, f"Global function {sub.name}() doesn't return scalar. Only those are supported.")
    for i, (_, type_id) in enumerate(proto.params):
        result.args.append(_argument(env, btf, sub, i, type_id))


def _bad(env: Env, sub: Subprog, text: str, code: int = errno.EINVAL) -> NoReturn:
    """Static functions promise nothing and say nothing of it."""
    if sub.is_global:
        env.fail(code, text)
    raise Reject(code, text)


def _argument(env: Env, btf: BtfView, sub: Subprog, i: int, type_id: int) -> ArgInfo:
    tags = [tag for tag in btf.arg_tags(sub.btf_func, i) if tag.startswith("arg:")]
    if tags and not sub.is_global:
        env.fail(errno.EOPNOTSUPP, f"arg#{i} type tag is not supported in static functions")
    if any(tag not in _TAGS for tag in tags):
        env.fail(errno.EOPNOTSUPP, f"arg#{i} has unsupported set of tags")
    kind = btf.resolve(type_id)
    if kind.kind is Kind.PTR:
        found = _pointer(env, btf, sub, i, type_id, tags)
        if found is not None:
            return found
    elif tags:
        env.inval(f"arg#{i} has pointer tag, but is not a pointer type")
    if kind.kind not in _SCALARS:
        _bad(env, sub, f"Arg#{i} type {kind.kind.name} in {sub.name}() is not supported yet.")
    return ArgInfo(ArgKind.SCALAR)


def _pointer(
    env: Env, btf: BtfView, sub: Subprog, i: int, type_id: int, tags: list[str]
) -> ArgInfo | None:
    target = btf.pointee(type_id)
    if "arg:ctx" in tags:
        if len(tags) > 1:
            env.inval(f"arg#{i} has invalid combination of tags")
        return ArgInfo(ArgKind.CTX)
    if target is not None and target.kind is Kind.STRUCT and target.name == "bpf_dynptr":
        env.not_modelled(f"argument {i} of function {sub.name}(): a dynptr")
    if "arg:trusted" in tags:
        if "arg:nonnull" in tags:
            env.inval(f"arg#{i} has invalid combination of tags")
        return ArgInfo(ArgKind.BTF_ID, maybe_null="arg:nullable" in tags,
                       btf_id=reg_types.kernel_type(env, i, btf, type_id))
    if "arg:untrusted" in tags:
        return _untrusted(env, btf, i, type_id, target, tags)
    if "arg:arena" in tags:
        if len(tags) > 1:
            env.inval(f"arg#{i} arena cannot be combined with any other tags")
        return ArgInfo(ArgKind.ARENA)
    if not sub.is_global:
        return None
    size = btf.size(target.id) if target is not None and target.id else 0
    if not size:
        named = f"{target.kind.name} {target.name}" if target is not None and target.id else "UNKNOWN "
        env.inval(f"arg#{i} reference type('{named}') size cannot be determined: -22")
    return ArgInfo(ArgKind.MEM, size, "arg:nonnull" not in tags)


def _untrusted(
    env: Env, btf: BtfView, i: int, type_id: int, target: BtfType | None, tags: list[str]
) -> ArgInfo:
    if len(tags) > 1:
        env.inval(f"arg#{i} untrusted cannot be combined with any other tags")
    if target is None or not target.id or target.kind in _SCALARS:
        return ArgInfo(ArgKind.ANY_POINTER)
    return ArgInfo(ArgKind.ANY_POINTER, btf_id=reg_types.kernel_type(env, i, btf, type_id))


# -- the function by itself ------------------------------------------------------------------------------------------


def enter(env: Env, number: int, regs: list[Reg]) -> None:
    """The part of do_check_common() for a function that is verified by itself: registers at its entry."""
    sub = env.subprogs[number]
    if env.log1:
        env.verbose(f"Validating {sub.name}() func#{number}...\n")
    signature = prepare(env, sub)
    if signature.error:
        raise Reject(signature.error, signature.reason)
    for reg, arg in zip(regs[1:], signature.args, strict=False):
        if arg.kind is ArgKind.CTX:
            reg.mark_known_zero(R.PTR_TO_CTX)
        elif arg.kind is ArgKind.MEM:
            reg.mark_known_zero(R.PTR_TO_MEM | (R.PTR_MAYBE_NULL if arg.maybe_null else 0))
            reg.mem_size = arg.mem_size
            reg.id = env.new_id() if arg.maybe_null else 0
        elif arg.kind is ArgKind.BTF_ID:
            _object(env, reg, arg, R.PTR_TRUSTED | (R.PTR_MAYBE_NULL if arg.maybe_null else 0))
        elif arg.kind is ArgKind.ANY_POINTER and arg.btf_id:
            _object(env, reg, arg, R.PTR_UNTRUSTED)
        elif arg.kind is ArgKind.ANY_POINTER:
            reg.mark_known_zero(R.PTR_TO_MEM | R.MEM_RDONLY | R.PTR_UNTRUSTED)
        else:
            reg.mark_unknown()


def _object(env: Env, reg: Reg, arg: ArgInfo, flags: int) -> None:
    reg.mark_known_zero(R.PTR_TO_BTF_ID | flags)
    reg.btf, reg.btf_id = env.vmlinux, arg.btf_id
    reg.id = env.new_id()


# -- calls -----------------------------------------------------------------------------------------------------------


def check_call(env: Env, number: int) -> Reject | None:
    """btf_check_subprog_call(): do the registers fit the prototype; why not, already in the log, if they do not.

    A static function whose caller does not fit it is walked into all the same, and not asked again.
    """
    sub = env.subprogs[number]
    if env.btf is None or not env.prog.func_info or sub.unreliable:
        return Reject(errno.EINVAL, "")
    if not sub.btf_func:
        return Reject(errno.EFAULT, "")
    signature = prepare(env, sub)
    if signature.error:
        sub.unreliable = True
        return Reject(signature.error, signature.reason)
    try:
        for i, arg in enumerate(signature.args):
            _match(env, i, arg)
    except Reject as refused:
        sub.unreliable = True
        return refused
    return None


def _match(env: Env, i: int, arg: ArgInfo) -> None:
    """btf_check_func_arg_match()."""
    regno = i + 1
    reg = env.regs[regno]
    if arg.kind is ArgKind.SCALAR:
        if reg.type != R.SCALAR_VALUE:
            env.inval(f"R{regno} is not a scalar")
    elif arg.kind is ArgKind.ANY_POINTER:
        pass
    elif arg.kind is ArgKind.BTF_ID:
        if not (reg.is_null() and arg.maybe_null):
            reg_types.check(env, regno, reg, arg.btf_id, arg.maybe_null)
    elif arg.kind is ArgKind.CTX:
        if reg.type != R.PTR_TO_CTX:
            env.inval(f"{env.arg_name(i)} expects pointer to ctx")
    elif arg.kind is ArgKind.ARENA:
        if reg.type not in (R.PTR_TO_ARENA, R.SCALAR_VALUE):
            env.inval(f"R{regno} is not a pointer to arena or scalar.")
    else:
        _memory(env, regno, reg, arg)
        if not arg.maybe_null and reg.maybe_null:
            env.inval(f"{env.arg_name(i)} is expected to be non-NULL")


def _memory(env: Env, regno: int, reg: Reg, arg: ArgInfo) -> None:
    """check_mem_reg(): readable and writable, or NULL."""
    if reg.is_null():
        return
    kind = reg.type
    reg.type &= ~R.PTR_MAYBE_NULL
    try:
        mem.check_helper_access(env, regno, arg.mem_size, False)
        mem.check_helper_access(env, regno, arg.mem_size, True)
    except Reject as refused:
        raise Reject(errno.EINVAL, refused.reason) from None
    finally:
        reg.type = kind
