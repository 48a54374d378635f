"""Calls of helpers: arguments against the prototype, and what comes back.

Mirrors check_helper_call(), check_func_arg(), check_map_func_compatibility() (kernel/bpf/verifier.c, 6.18). Left out:
tail calls, references and every helper that kernel_model.bpf.protos does not list: they are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch.bpf_isa import Insn
from kernel_model.bpf.disasm import helper_name
from kernel_model.bpf.program import MapType
from kernel_model.bpf.protos import PROTOS, Arg, Proto, Ret
from kernel_model.bpf.verifier import bounds, callbacks, mem, reg_types, regions
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.kinds import CallTraits
from kernel_model.types import Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_BOUNDED_BY_SIZE = (114, 115)  # bpf_probe_read_{user,kernel}_str(): at most the size, or an error
_MAX_ERRNO = 4095
# mem_types of check_reg_type(), and how its message lists them
_MEM_TYPES = (R.PTR_TO_STACK, R.PTR_TO_PACKET, R.PTR_TO_PACKET_META, R.PTR_TO_MAP_KEY, R.PTR_TO_MAP_VALUE, R.PTR_TO_MEM,
              R.PTR_TO_MEM | R.MEM_RINGBUF, R.PTR_TO_BTF_ID | R.PTR_TRUSTED)
_MEM_NAMES = "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"


def fill_traits(insn: Insn, traits: CallTraits) -> None:
    """What control-flow analysis and liveness must know of the helper."""
    proto = PROTOS.get(insn.imm)
    if proto is not None:
        traits.might_sleep = proto.might_sleep
        traits.num_params = len(proto.args)


def check(env: Env) -> None:
    """check_helper_call()."""
    insn = env.insn
    proto = PROTOS.get(insn.imm)
    if proto is None:
        if helper_name(insn.imm) == "unknown":
            env.inval(f"invalid func unknown#{insn.imm}")
        env.not_modelled(f"helper {helper_name(insn.imm)}#{insn.imm}")
    if proto.gpl_only and "GPL" not in env.prog.license:
        env.inval("cannot call GPL-restricted function from non-GPL compatible program")
    if proto.might_sleep:
        regions.check_helper(env, proto.name, insn.imm)
    found, callback = None, -1
    for index, arg in enumerate(proto.args):
        found = _argument(env, proto, index + 1, arg, found)
        if arg is Arg.PTR_TO_FUNC:
            callback = env.regs[index + 1].subprogno
    largest = env.regs[2].umax
    if callback >= 0:
        callbacks.check_helper(env, insn.imm, callback)
    env.clear_caller_saved(env.cur.frame)
    result = env.regs[0]
    result.mark_unknown()
    if insn.imm in _BOUNDED_BY_SIZE:
        _refine_result(env, largest)
    if proto.ret is Ret.PTR_TO_MAP_VALUE_OR_NULL:
        result.mark_known_zero(R.PTR_TO_MAP_VALUE_OR_NULL)
        result.map = found
        result.id = env.new_id()
    elif proto.ret is Ret.PTR_TO_TASK_TRUSTED:
        task = env.vmlinux.find("task_struct", Kind.STRUCT) if env.vmlinux is not None else None
        if env.vmlinux is None or task is None:
            env.inval(f"invalid return type {proto.ret.name} of func {helper_name(insn.imm)}#{insn.imm}")
        result.mark_known_zero(R.PTR_TO_BTF_ID | R.PTR_TRUSTED)
        result.btf, result.btf_id = env.vmlinux, task.id


def _refine_result(env: Env, largest: int) -> None:
    """do_refine_retval_range(): between the errors and `largest`, the size argument's largest value."""
    result = env.regs[0]
    result.smin = result.s32min = -_MAX_ERRNO
    result.smax = result.s32max = largest
    bounds.sync(result)


def _expect(env: Env, regno: int, ok: bool, expected: str) -> None:
    if not ok:
        env.access(f"R{regno} type={R.type_str(env.regs[regno].type)} expected={expected}")


def _argument(env: Env, proto: Proto, regno: int, arg: Arg, found: object) -> object:
    """check_func_arg(): one argument; gives the map that the call is about."""
    reg = env.reg_read(regno)
    if arg is Arg.ANYTHING:
        return found
    if arg is Arg.PTR_TO_FUNC:
        _expect(env, regno, reg.type == R.PTR_TO_FUNC, "func")
        return found
    if arg is Arg.PTR_TO_STACK_OR_NULL:
        _expect(env, regno, reg.is_null() or reg.type == R.PTR_TO_STACK, "fp")
        return found
    if arg is Arg.PTR_TO_TASK:
        task = env.vmlinux.find("task_struct", Kind.STRUCT) if env.vmlinux is not None else None
        if task is None:
            env.bug("no type of tasks")
        reg_types.check(env, regno, reg, task.id)
        return found
    if arg is Arg.CONST_MAP_PTR:
        _expect(env, regno, reg.type == R.CONST_PTR_TO_MAP, "map_ptr")
        if reg.map.type == MapType.ARENA:
            env.inval(f"cannot pass map_type {int(reg.map.type)} into func {proto.name}#{env.insn.imm}")
        return reg.map
    if arg not in (Arg.CONST_SIZE, Arg.CONST_SIZE_OR_ZERO):
        _expect(env, regno, reg.type & ~R.MEM_RDONLY in _MEM_TYPES, _MEM_NAMES)
        if reg.base == R.PTR_TO_BTF_ID and arg is not Arg.PTR_TO_MEM:
            env.access(f"{proto.name}() may write into memory pointed by R{regno} type={R.type_str(reg.type)}")
    if arg in (Arg.PTR_TO_MAP_KEY, Arg.PTR_TO_MAP_VALUE):
        size = found.key_size if arg is Arg.PTR_TO_MAP_KEY else found.value_size  # type: ignore[attr-defined]
        mem.check_helper_access(env, regno, size, False)
    elif arg is Arg.CONST_SIZE or arg is Arg.CONST_SIZE_OR_ZERO:
        writes = proto.args[regno - 2] is Arg.PTR_TO_UNINIT_MEM
        mem.check_mem_size(env, regno - 1, regno, writes, arg is Arg.CONST_SIZE_OR_ZERO, writes)
    return found
