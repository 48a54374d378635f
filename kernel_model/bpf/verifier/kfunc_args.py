"""Arguments of kernel functions: are they what the function's types, parameter names and flags ask for.

Mirrors check_kfunc_args(), get_kfunc_ptr_arg_type() and process_kf_arg_ptr_to_btf_id() (kernel/bpf/verifier.c, 6.18,
and 7.2 where profiles differ: Env.arg_name). Leaves out dynptrs, graph nodes, locks, work queues, callbacks and
reg2btf_ids (sockets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel_model.bpf.kfunc_ids import (
    KF_ITER_DESTROY,
    KF_ITER_NEW,
    KF_ITER_NEXT,
    KF_RCU,
    KF_RELEASE,
    KF_TRUSTED_ARGS,
)
from kernel_model.bpf.program import MapType
from kernel_model.bpf.verifier import irq_flags, iters, mem, refs
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.btfview import BtfView
from kernel_model.bpf.verifier.errors import Reject
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.types import BtfType, Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_BPF_F_RDONLY_PROG = 1 << 7
_ITER_FLAGS = KF_ITER_NEW | KF_ITER_NEXT | KF_ITER_DESTROY
_RECORDS = (Kind.STRUCT, Kind.UNION)
_SCALARS = (Kind.INT, Kind.ENUM, Kind.ENUM64)
_TRUSTED_MODIFIERS = R.MEM_ALLOC | R.PTR_TRUSTED | R.NON_OWN_REF


@dataclass(slots=True)
class Meta:
    """bpf_kfunc_call_arg_meta: the function called, and what its arguments turned out to be."""

    btf: BtfView
    btf_id: int
    name: str
    flags: int
    proto: BtfType
    iterator: iters.IterSlot | None = None
    ref_obj_id: int = 0  # of an argument that is a reference, or of the iterator passed
    release_regno: int = 0


def check(env: Env, meta: Meta) -> None:
    """All arguments, left to right."""
    params = meta.proto.params
    if len(params) > 5:
        env.inval(f"Function {meta.name} has {len(params)} > 5 args")
    i = 0
    while i < len(params):
        i += _one(env, meta, i)
    if meta.flags & KF_RELEASE and not meta.release_regno:
        env.inval(f"release kernel function {meta.name} expects refcounted PTR_TO_BTF_ID")


def _wants_trusted(env: Env, meta: Meta) -> bool:
    """is_kfunc_trusted_args() || is_kfunc_rcu(); later every function does."""
    return env.profile.trusted_args_default or bool(meta.flags & (KF_TRUSTED_ARGS | KF_RELEASE | KF_RCU))


def _one(env: Env, meta: Meta, i: int) -> int:
    """Check argument `i`; how many arguments that took care of."""
    name, type_id = meta.proto.params[i]
    regno = i + 1
    if name.endswith(("__ign", "__prog")):
        return 1
    reg = env.reg_read(regno)
    if meta.btf.is_scalar(type_id):
        if reg.type != R.SCALAR_VALUE:
            env.inval(f"R{regno} is not a scalar")
        return 1
    if meta.btf.resolve(type_id).kind is not Kind.PTR:
        env.inval(f"Unrecognized arg#{i} type {meta.btf.name(type_id)}")
    if _wants_trusted(env, meta) and (reg.is_null() or reg.maybe_null) and not name.endswith("__nullable"):
        env.access(f"Possibly NULL pointer passed to trusted {env.arg_name(i, 'arg')}")
    if env.profile.args_by_register and meta.flags & KF_RELEASE and i == 0 and not name.endswith("__iter"):
        if not reg.ref_obj_id and not reg.is_null():
            env.inval(f"release kfunc {meta.name} expects referenced PTR_TO_BTF_ID passed to {env.arg_name(i)}")
    if reg.ref_obj_id and reg.type != R.PTR_TO_STACK:
        if meta.flags & KF_RELEASE and meta.ref_obj_id:
            env.bug(f"more than one arg with ref_obj_id R{regno} {reg.ref_obj_id} {meta.ref_obj_id}")
        meta.ref_obj_id = reg.ref_obj_id
        if meta.flags & KF_RELEASE:
            meta.release_regno = regno
    return _pointer(env, meta, i, reg)


def _pointer(env: Env, meta: Meta, i: int, reg: Reg) -> int:
    """get_kfunc_ptr_arg_type(), then what that kind of argument needs."""
    name, type_id = meta.proto.params[i]
    regno = i + 1
    target = meta.btf.pointee(type_id)
    if name.endswith("__nullable") and reg.is_null():
        return 1
    if meta.flags & _ITER_FLAGS and i == 0 or name.endswith("__iter"):
        _iterator(env, meta, regno, target)
    elif name.endswith("__str"):
        _const_string(env, i, reg)
    elif name.endswith("__map"):
        _map(env, regno, reg)
    elif name.endswith("__irq_flag"):
        irq_flags.process_arg(env, regno, meta.name == irq_flags.SAVE)
    elif reg.base == R.PTR_TO_BTF_ID:
        _btf_pointer(env, meta, i, reg, target)
    else:
        return _memory(env, meta, i, target)
    return 1


def _iterator(env: Env, meta: Meta, regno: int, target: BtfType | None) -> None:
    if target is None or target.kind is not Kind.STRUCT or not target.name.startswith(iters.PREFIX):
        env.inval(f"expected valid iter pointer as {env.arg_name(regno - 1, 'arg #')}")
    kind = target.name.removeprefix(iters.PREFIX)
    meta.iterator = iters.process_arg(env, regno, meta.flags, kind, target.size, meta.name)
    if not meta.flags & (KF_ITER_NEW | KF_ITER_DESTROY):
        meta.ref_obj_id = iters.slot_reg(env, meta.iterator).ref_obj_id
    if meta.flags & KF_RELEASE:
        meta.release_regno = regno


def _record_name(target: BtfType | None) -> str:
    return f"{target.kind.name} {target.name}" if target is not None and target.id else "UNKNOWN "


def _btf_pointer(env: Env, meta: Meta, i: int, reg: Reg, target: BtfType | None) -> None:
    """KF_ARG_PTR_TO_BTF_ID."""
    regno = i + 1
    if target is None or target.kind not in _RECORDS:
        named = env.arg_name(i, "args#")
        env.inval(f"kernel function {meta.name} {named} pointer type {_record_name(target)} is not supported")
    if _wants_trusted(env, meta) and not refs.is_trusted(reg):
        if not meta.flags & KF_RCU:
            env.inval(f"R{regno} must be referenced or trusted")
        if not refs.is_rcu(reg):
            env.inval(f"R{regno} must be a rcu pointer")
    if reg.var_off.mask or reg.var_off.value or (reg.off and meta.flags & KF_RELEASE):
        env.not_modelled(f"R{regno}: a kernel pointer with an offset as argument of {meta.name}")
    if reg.type & ~R.BASE_MASK & ~_TRUSTED_MODIFIERS and not refs.is_rcu(reg):
        expected = R.type_str(reg.base | reg.type & _TRUSTED_MODIFIERS)
        env.inval(f"{env.arg_name(i)} is {R.type_str(reg.type)} expected {expected} or socket")
    given = reg.btf.resolve(reg.btf_id)
    if given.id != target.id or reg.btf is not meta.btf:
        env.inval(f"kernel function {meta.name} {env.arg_name(i, 'args#')} expected pointer to {_record_name(target)} "
                  f"but R{regno} has a pointer to {_record_name(given)}")


def _map(env: Env, regno: int, reg: Reg) -> None:
    """KF_ARG_PTR_TO_MAP."""
    if reg.type != R.CONST_PTR_TO_MAP or reg.map is None:
        env.inval(f"pointer in R{regno} isn't map pointer")
    if reg.map.type == MapType.ARENA and env.arena_map is None:
        env.arena_map = next(i for i, known in enumerate(env.maps) if known is reg.map)


def _scalar_struct(btf: BtfView, kind: BtfType, depth: int = 0) -> bool:
    """__btf_type_is_scalar_struct(): scalars all the way down, four levels at most."""
    if kind.kind is not Kind.STRUCT or depth >= 4:
        return False
    for member in kind.members:
        field = btf.resolve(member.type_id)
        if field.kind is Kind.ARRAY:
            field = btf.resolve(field.array[0])
        if field.kind not in _SCALARS and not _scalar_struct(btf, field, depth + 1):
            return False
    return True


def _memory(env: Env, meta: Meta, i: int, target: BtfType | None) -> int:
    """KF_ARG_PTR_TO_MEM and KF_ARG_PTR_TO_MEM_SIZE: memory of the type's size, or as long as the next argument says."""
    params, regno = meta.proto.params, i + 1
    sized = i + 1 < len(params) and params[i + 1][0].endswith(("__sz", "__szk"))
    void = target is None or target.id == 0
    plain = target is not None and (target.kind in _SCALARS or _scalar_struct(meta.btf, target))
    if not plain and not (sized and void):
        kinds = "void, scalar" if sized else "scalar"
        env.inval(f"{env.arg_name(i)} pointer type {_record_name(target)} must point to {kinds}, or struct with scalar")
    if not sized:
        assert target is not None
        mem.check_helper_access(env, regno, meta.btf.size(target.id), False)
        mem.check_helper_access(env, regno, meta.btf.size(target.id), True)
        return 1
    size = env.reg_read(regno + 1)
    if size.type != R.SCALAR_VALUE:
        env.inval(f"R{regno + 1} is not a scalar")
    try:
        mem.check_mem_size(env, regno, regno + 1)
        mem.check_mem_size(env, regno, regno + 1, True)
    except Reject:
        pair = (" and " if env.profile.args_by_register else " ").join((env.arg_name(i), env.arg_name(i + 1)))
        env.verbose(f"{pair} memory, len pair leads to invalid memory access\n")
        raise
    return 2


def _const_string(env: Env, i: int, reg: Reg) -> None:
    """KF_ARG_PTR_TO_CONST_STR: check_reg_const_str()."""
    regno = i + 1
    if reg.type != R.PTR_TO_MAP_VALUE:
        env.inval(f"{env.arg_name(i)} doesn't point to a const string")
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
