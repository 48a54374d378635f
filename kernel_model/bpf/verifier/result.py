"""What verification leaves behind for the rewriting passes, the JITs and the command line.

Mirrors struct bpf_insn_aux_data and bpf_subprog_info (include/linux/bpf_verifier.h), as far as someone reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from arch.bpf_isa import Insn


class VerifierMap(Protocol):
    """What the verifier asks of a map. Optional attributes: `frozen` (bool), `address` (int, printed in the log),
    `direct_read(off, size) -> bytes | None` (contents of a frozen read-only map), `record` (special fields)."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> int: ...
    @property
    def key_size(self) -> int: ...
    @property
    def value_size(self) -> int: ...
    @property
    def max_entries(self) -> int: ...
    @property
    def map_flags(self) -> int: ...
    @property
    def id(self) -> int: ...


@dataclass(slots=True)
class KfuncCall:
    """What the verifier learned at a kfunc call."""

    btf_id: int
    name: str
    flags: int
    arena: bool = False  # some argument or the result is an arena pointer


@dataclass(slots=True)
class InsnAux:
    """Facts about one instruction slot, over all paths that reach it."""

    ptr_type: int = 0  # register type (verifier.regs) of the memory access's base; 0: none seen
    map_index: int | None = None  # ldimm64 of a map or map value: index into the program's maps
    needs_zext: bool = False  # 64-bit arithmetic on an arena pointer becomes 32-bit
    seen: bool = False  # some path reached it; others are dead code
    non_sleepable: bool = False  # some path reached it where sleeping is not allowed
    kfunc: KfuncCall | None = None
    loop_flags_zero: bool | None = None  # bpf_loop(): its flags were zero on every path so far; None: not reached
    # control flow facts found before the walk
    prune_point: bool = False
    jmp_point: bool = False
    force_checkpoint: bool = False
    calls_callback: bool = False
    is_iter_next: bool = False
    scc: int = 0
    live_regs_before: int = 0


@dataclass(slots=True)
class Subprog:
    """One function of the program: slots [start, end), as the whole program counts them."""

    start: int
    end: int = 0
    name: str = ""
    btf_func: int = 0  # BTF id of its FUNC in the object's BTF, 0 without
    is_global: bool = False
    stack_depth: int = 0
    has_tail_call: bool = False
    tail_call_reachable: bool = False
    changes_pkt_data: bool = False
    might_sleep: bool = False
    is_callback: bool = False
    called: bool = False  # global functions: reached from something that was verified
    verified: bool = False
    unreliable: bool = False  # its BTF does not say what callers pass
    postorder: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Stats:
    """The counters of the log's last line."""

    processed: int = 0
    max_states_per_insn: int = 0
    total_states: int = 0
    peak_states: int = 0


@dataclass(slots=True)
class VerifiedProg:
    """A program that may run. `maps` are the maps it uses, in order of first use."""

    name: str
    insns: Sequence[Insn]
    insn_aux: list[InsnAux]
    subprogs: list[Subprog]
    maps: list[VerifierMap]
    log: str
    stats: Stats
    arena_map: int | None  # index into the maps handed in
    uses_may_goto: bool
    sleepable: bool
    max_stack_depth: int
    kfunc_names: dict[int, str] = field(default_factory=dict)
    changes_pkt_data: bool = False
