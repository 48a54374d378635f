"""Records that pass between the object loader, the verifier, the engines and the runtime.

    .bpf.o --loader--> BpfObject(MapSpec, ProgSpec) --runtime creates maps--> verifier --> fixups --> XlatedProg
                                                                             --> interpreter or JIT

Mirrors what libbpf hands to BPF_MAP_CREATE and BPF_PROG_LOAD (union bpf_attr) and what struct bpf_prog_aux keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from arch.bpf_isa import Insn


class MapType(IntEnum):
    """enum bpf_map_type (include/uapi/linux/bpf.h), as far as named anywhere here."""

    UNSPEC = 0
    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    RINGBUF = 27
    TASK_STORAGE = 29
    USER_RINGBUF = 31
    ARENA = 33


class ProgType(IntEnum):
    """enum bpf_prog_type, as far as named anywhere here."""

    UNSPEC = 0
    SOCKET_FILTER = 1
    KPROBE = 2
    SCHED_CLS = 3
    SCHED_ACT = 4
    TRACEPOINT = 5
    XDP = 6
    PERF_EVENT = 7
    CGROUP_SKB = 8
    RAW_TRACEPOINT = 17
    TRACING = 26
    STRUCT_OPS = 27
    EXT = 28
    LSM = 29
    SYSCALL = 31


# map flags (include/uapi/linux/bpf.h)
BPF_F_NO_PREALLOC = 1 << 0
BPF_F_RDONLY_PROG = 1 << 7
BPF_F_WRONLY_PROG = 1 << 8
BPF_F_MMAPABLE = 1 << 10
BPF_F_SEGV_ON_FAULT = 1 << 17
BPF_F_NO_USER_CONV = 1 << 18


@dataclass(slots=True)
class MapSpec:
    """One map of an object file, before creation. Sizes in bytes; BTF ids are the object's."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int = 0
    map_extra: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    initial: bytes | None = None  # contents of a global-data section; for an arena: of its .addr_space.1 globals
    section: str | None = None  # ".data", ".rodata", ".bss", ... for global data
    readonly: bool = False  # .rodata and .kconfig: frozen after load


@dataclass(slots=True)
class FuncInfo:
    """struct bpf_func_info: a function starts at `insn_off` (slots); `type_id` is its BTF FUNC."""

    insn_off: int
    type_id: int


@dataclass(slots=True)
class LineInfo:
    """struct bpf_line_info, strings resolved. `insn_off` in slots from the program's first instruction."""

    insn_off: int
    file_name: str
    line: str
    line_num: int
    line_col: int


@dataclass(slots=True)
class ProgSpec:
    """One entry program with the subprograms it reaches appended, exactly as libbpf hands it to the kernel.

    Pseudo instructions are still symbolic: BPF_PSEUDO_MAP_FD / MAP_VALUE carry the index into the object's `maps`
    in imm, BPF_PSEUDO_KFUNC_CALL and BPF_PSEUDO_BTF_ID the kernel's BTF id, BPF_PSEUDO_CALL and BPF_PSEUDO_FUNC the
    slot-relative offset to a subprogram. CO-RE relocations have been applied.
    """

    name: str
    section: str
    type: ProgType
    insns: list[Insn]
    expected_attach_type: int = 0
    attach_to: str | None = None  # function, tracepoint, ... of SEC()
    sleepable: bool = False
    autoload: bool = True  # False for SEC("?...")
    func_info: list[FuncInfo] = field(default_factory=list)
    line_info: list[LineInfo] = field(default_factory=list)
    subprogs: list[tuple[str, int]] = field(default_factory=list)  # (name, first slot), main first
    license: str = ""
    attach_btf_id: int = 0  # tracing: the kernel's BTF id of `attach_to` (kernel_model/bpf/object/attach.py)


@dataclass(slots=True)
class XlatedFunc:
    """One function after the verifier's rewriting; `start` is its first slot in the whole xlated program."""

    name: str
    start: int
    insns: list[Insn]
    stack_depth: int
    is_subprog: bool
    line_info: list[LineInfo] = field(default_factory=list)  # insn_off relative to `start`
    tail_call_reachable: bool = False
    exception_boundary: bool = False


@dataclass(slots=True)
class XlatedProg:
    """What `bpftool prog dump xlated` shows and the engines run.

    In it: map pointers and map-value addresses are guest addresses; BPF_CALL to a helper has src 0 and imm = helper
    id; to a kfunc src BPF_PSEUDO_KFUNC_CALL and imm = vmlinux BTF id (off = 0); to a subprogram src BPF_PSEUDO_CALL
    and imm = slot-relative offset inside the whole program. Arena accesses are PROBE_MEM32 / PROBE_ATOMIC.
    """

    name: str
    tag: str  # 16 hex digits
    funcs: list[XlatedFunc]
    uses_arena: bool
    kfunc_names: dict[int, str] = field(default_factory=dict)  # BTF id -> name, after specialize_kfunc()

    @property
    def insns(self) -> list[Insn]:
        """All functions' instructions in order."""
        return [insn for func in self.funcs for insn in func.insns]
