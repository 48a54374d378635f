"""Helper prototypes: what each helper takes, gives and needs.

Mirrors struct bpf_func_proto of kernel/bpf/helpers.c and kernel/trace/bpf_trace.c, for the helpers that have an
implementation here; ids and names are those of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Arg(Enum):
    """enum bpf_arg_type, as far as used."""

    CONST_MAP_PTR = "map"
    PTR_TO_MAP_KEY = "key"
    PTR_TO_MAP_VALUE = "value"
    ANYTHING = "anything"
    PTR_TO_MEM = "mem"  # read; the next argument is its size
    PTR_TO_UNINIT_MEM = "uninit mem"  # written; the next argument is its size
    CONST_SIZE = "size"
    CONST_SIZE_OR_ZERO = "size or zero"
    PTR_TO_FUNC = "callback"
    PTR_TO_STACK_OR_NULL = "stack or null"
    PTR_TO_TASK = "pointer to struct task_struct"  # ARG_PTR_TO_BTF_ID


class Ret(Enum):
    """enum bpf_return_type, as far as used."""

    INTEGER = "integer"
    PTR_TO_MAP_VALUE_OR_NULL = "map value or null"
    PTR_TO_TASK_TRUSTED = "trusted pointer to struct task_struct"


@dataclass(frozen=True, slots=True)
class Proto:
    """One helper."""

    name: str
    ret: Ret
    args: tuple[Arg, ...] = ()
    might_sleep: bool = False
    gpl_only: bool = False


_KEY = (Arg.CONST_MAP_PTR, Arg.PTR_TO_MAP_KEY)
_PROBE = (Arg.PTR_TO_UNINIT_MEM, Arg.CONST_SIZE_OR_ZERO, Arg.ANYTHING)
PROTOS: dict[int, Proto] = {
    1: Proto("bpf_map_lookup_elem", Ret.PTR_TO_MAP_VALUE_OR_NULL, _KEY),
    2: Proto("bpf_map_update_elem", Ret.INTEGER, (*_KEY, Arg.PTR_TO_MAP_VALUE, Arg.ANYTHING)),
    3: Proto("bpf_map_delete_elem", Ret.INTEGER, _KEY),
    5: Proto("bpf_ktime_get_ns", Ret.INTEGER),
    6: Proto("bpf_trace_printk", Ret.INTEGER, (Arg.PTR_TO_MEM, Arg.CONST_SIZE), gpl_only=True),  # the rest: varargs
    7: Proto("bpf_get_prandom_u32", Ret.INTEGER),
    8: Proto("bpf_get_smp_processor_id", Ret.INTEGER),
    14: Proto("bpf_get_current_pid_tgid", Ret.INTEGER),
    15: Proto("bpf_get_current_uid_gid", Ret.INTEGER),
    16: Proto("bpf_get_current_comm", Ret.INTEGER, (Arg.PTR_TO_UNINIT_MEM, Arg.CONST_SIZE)),
    35: Proto("bpf_get_current_task", Ret.INTEGER, gpl_only=True),
    112: Proto("bpf_probe_read_user", Ret.INTEGER, _PROBE, gpl_only=True),
    113: Proto("bpf_probe_read_kernel", Ret.INTEGER, _PROBE, gpl_only=True),
    114: Proto("bpf_probe_read_user_str", Ret.INTEGER, _PROBE, gpl_only=True),
    115: Proto("bpf_probe_read_kernel_str", Ret.INTEGER, _PROBE, gpl_only=True),
    118: Proto("bpf_jiffies64", Ret.INTEGER),
    125: Proto("bpf_ktime_get_boot_ns", Ret.INTEGER),
    148: Proto("bpf_copy_from_user", Ret.INTEGER, _PROBE, might_sleep=True),
    158: Proto("bpf_get_current_task_btf", Ret.PTR_TO_TASK_TRUSTED, gpl_only=True),
    180: Proto("bpf_find_vma", Ret.INTEGER,
               (Arg.PTR_TO_TASK, Arg.ANYTHING, Arg.PTR_TO_FUNC, Arg.PTR_TO_STACK_OR_NULL, Arg.ANYTHING)),
    181: Proto("bpf_loop", Ret.INTEGER, (Arg.ANYTHING, Arg.PTR_TO_FUNC, Arg.PTR_TO_STACK_OR_NULL, Arg.ANYTHING)),
    191: Proto("bpf_copy_from_user_task", Ret.INTEGER, (*_PROBE, Arg.PTR_TO_TASK, Arg.ANYTHING), might_sleep=True,
               gpl_only=True),
}
