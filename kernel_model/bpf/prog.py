"""Loading a program: verify, rewrite, translate, place in guest memory, make findable.

Mirrors bpf_prog_load() (kernel/bpf/syscall.c), jit_subprogs() (verifier.c) and bpf_prog_kallsyms_add() (core.c).
Programs stay loaded until the kernel is gone.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from arch.bpf_isa import BPF_PSEUDO_CALL, BPF_PSEUDO_KFUNC_CALL, Insn, encode
from arch.interface import ExtableEntry, JitArena, JitImage, JitRequest, Prot
from kernel_model.bpf.arena import ArenaMap
from kernel_model.bpf.fixups import TIMED_MAY_GOTO_CALL, Addresses, Function, Slot, fix_up
from kernel_model.bpf.maps.base import Map
from kernel_model.bpf.program import ProgSpec, XlatedFunc, XlatedProg
from kernel_model.bpf.run_interp import InterpreterEngine
from kernel_model.bpf.streams import ProgStreams
from kernel_model.errors import KemuError, NotModelledError
from kernel_model.types import Btf, Kind

_EXTABLE = struct.Struct("<iII")
_FUNC_ALIGN = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the loader needs of the verifier's result; `log` as the kernel would have written it."""

    slots: Sequence[Slot]
    functions: list[Function]
    arena_map: int | None
    kfunc_names: dict[int, str]
    log: str


@dataclass(slots=True)
class Prog:
    """One loaded program. Addresses are guest virtual."""

    name: str
    spec: ProgSpec
    xlated: XlatedProg
    address: int  # struct bpf_prog
    aux: list[int]  # struct bpf_prog_aux of each function
    images: list[tuple[int, JitImage]]  # (base, image) of each function
    maps: list[Map]
    arena: ArenaMap | None
    fd: int
    log: str
    streams: ProgStreams = field(default_factory=ProgStreams)

    @property
    def tag(self) -> str:
        """16 hex digits."""
        return self.xlated.tag


class ProgLoader:
    """Loads programs into one kernel. `host` is the kernel's parts; `bpf` its BPF core."""

    def __init__(self, host: Any, bpf: Any, jit_window: tuple[int, int]) -> None:
        self._host = host
        self._bpf = bpf
        self._window = jit_window
        self._next_fd = 3
        self._lines: list[tuple[int, int, list[tuple[int, str, str, int]]]] = []
        bpf.lines = self._file_line
        self._interpreter = InterpreterEngine(host.current_task)
        bpf.interpret = self._interpreter.interpret
        bpf.interpreted = (host.machine.symbol("bpf_prog_run_interp"), self._interpreter.running)

    def load(self, spec: ProgSpec, maps: list[Map], verdict: Verdict, btf: Btf, engine: str) -> Prog:
        """bpf_prog_load() behind the verifier. `engine` is "jit" or "interp"."""
        types, objects = self._host.types, self._host.objects
        aux = [objects.new("bpf_prog_aux") for _ in verdict.functions]
        address = objects.new("bpf_prog")
        xlated = fix_up(spec, verdict.slots, verdict.functions, self._addresses(maps, aux[0], btf), verdict.arena_map,
                        verdict.kfunc_names)
        arena = maps[verdict.arena_map] if verdict.arena_map is not None else None
        assert arena is None or isinstance(arena, ArenaMap)
        images = self._translate(xlated, arena, btf)
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        prog = Prog(spec.name, spec, xlated, address, aux, images, maps, arena, fd, verdict.log)
        for index in range(len(xlated.funcs)):
            self._publish(prog, index, types)
        insns = self._fill_main(prog, types, engine)
        if engine == "interp":
            self._interpreter.add(insns, self._host, prog, lambda insn: self._called(insn, btf))
        self._bpf.prog_streams[address] = prog.streams
        self._bpf.install_fd(fd, address)
        return prog

    def _addresses(self, maps: list[Map], aux: int, btf: Btf) -> Addresses:
        def prog_argument(btf_id: int) -> int | None:
            proto = btf.type(btf.type(btf_id).type_id)
            return next((i for i, (name, _) in enumerate(proto.params) if name.endswith("__prog")), None)

        return Addresses(
            lambda i: maps[i].address, lambda i, offset: maps[i].direct_value_addr(offset),
            lambda i: maps[i].map_flags, aux, prog_argument,
        )

    # -- translation -------------------------------------------------------------------------------------------------

    def _translate(self, xlated: XlatedProg, arena: ArenaMap | None, btf: Btf) -> list[tuple[int, JitImage]]:
        """JIT every function until sizes stand still, then write code and exception tables."""
        jit = self._host.arch.jit
        constants = JitArena(arena.kern_vm_start, arena.user_vm_start) if arena is not None else None
        bases = [self._window[0]] * len(xlated.funcs)
        area = 0
        images: list[JitImage] = []
        for _ in range(8):
            images = [jit.compile(self._request(xlated, i, bases, constants, btf)) for i in range(len(xlated.funcs))]
            sizes = [self._room(image) for image in images]
            if not area:
                area = self._host.vmalloc.vmalloc(
                    sum(sizes), f"BPF text of {xlated.name}", start=self._window[0], end=self._window[1],
                    prot=Prot.READ | Prot.EXEC,
                )
            placed = [area + sum(sizes[:i]) for i in range(len(sizes))]
            if placed == bases:
                break
            bases = placed
        else:
            raise KemuError(f"program {xlated.name!r}: the JIT's image does not converge")
        for base, image in zip(bases, images, strict=True):
            self._host.space.write(base, image.code)
            self._host.space.write(base + self._table_offset(image), self._table(base, image))
        self._host.machine.flush_icache_range(bases[0], bases[-1] + len(images[-1].code))
        return list(zip(bases, images, strict=True))

    @staticmethod
    def _table_offset(image: JitImage) -> int:
        return (len(image.code) + 15) & ~15

    def _room(self, image: JitImage) -> int:
        return (self._table_offset(image) + 12 * len(image.extable) + _FUNC_ALIGN - 1) & -_FUNC_ALIGN

    def _table(self, base: int, image: JitImage) -> bytes:
        """Real exception_table_entry records: `insn` relative to itself, the other words as the JIT made them."""
        at, out = base + self._table_offset(image), b""
        entries: list[ExtableEntry] = sorted(image.extable, key=lambda e: e.insn_off)
        for index, entry in enumerate(entries):
            out += _EXTABLE.pack(base + entry.insn_off - (at + 12 * index), entry.fixup & 0xFFFFFFFF, entry.type_data)
        return out

    def _request(
        self, xlated: XlatedProg, index: int, bases: list[int], arena: JitArena | None, btf: Btf
    ) -> JitRequest:
        func = xlated.funcs[index]
        timed = self._host.machine.symbol("arch_bpf_timed_may_goto")
        starts = [f.start for f in xlated.funcs]

        def call_target(at: int, insn: Insn) -> int:
            if insn.src == BPF_PSEUDO_CALL or insn.is_ld_imm64:
                return bases[starts.index(func.start + at + insn.imm + 1)]
            if insn.src == 0 and insn.imm == TIMED_MAY_GOTO_CALL:
                return int(timed)
            return self._called(insn, btf)

        return JitRequest(func.insns, func.stack_depth, func.is_subprog, bases[index], call_target, arena, timed)

    def _called(self, insn: Insn, btf: Btf) -> int:
        """Address of the kfunc or helper that the instruction calls."""
        kfunc = insn.src == BPF_PSEUDO_KFUNC_CALL
        return self._symbol(btf.type(insn.imm).name if kfunc else helper_symbol(insn.imm))

    def _symbol(self, name: str) -> int:
        try:
            return int(self._host.machine.symbol(name))
        except KeyError:
            raise NotModelledError(f"kernel function {name} is not in the image (docs/limitations.md)") from None

    # -- publication -------------------------------------------------------------------------------------------------

    def _publish(self, prog: Prog, index: int, types: Any) -> None:
        """One function: its aux, its exception table, its symbol, its lines."""
        base, image = prog.images[index]
        func = prog.xlated.funcs[index]
        tag = prog.tag if index == 0 else hashlib.sha256(encode(func.insns)).hexdigest()[:16]
        name = f"bpf_prog_{tag}_{func.name}"
        aux = types.view("bpf_prog_aux", prog.aux[index])
        aux.prog = prog.address
        aux.main_prog_aux = prog.aux[0]
        aux.arena = prog.arena.address if prog.arena is not None else 0
        aux.extable = base + self._table_offset(image)
        aux.num_exentries = len(image.extable)
        aux.func_idx = index
        aux.func_cnt = len(prog.xlated.funcs)
        aux.stack_depth = func.stack_depth
        aux.ksym.start = base
        aux.ksym.end = base + len(image.code)
        aux.ksym.name = name
        owner = prog.address
        if index:
            owner = self._host.objects.new("bpf_prog", aux=prog.aux[index], bpf_func=base)
            aux.prog = owner
        self._bpf.add_text(base, base + len(image.code), owner, name)
        self._lines.append((base, base + len(image.code), self._line_table(func, base, image)))
        self._lines.sort(key=lambda entry: entry[0])

    @staticmethod
    def _line_table(func: XlatedFunc, base: int, image: JitImage) -> list[tuple[int, str, str, int]]:
        return [
            (base + image.insn_offsets[min(info.insn_off, len(image.insn_offsets) - 1)], info.line.lstrip(" \t"),
             info.file_name.rsplit("/", 1)[-1], info.line_num)
            for info in func.line_info
        ]

    def _file_line(self, ip: int) -> tuple[str, str, int] | None:
        """bpf_prog_get_file_line(): the last line record before `ip`."""
        for start, end, table in self._lines:
            if start <= ip < end and table:
                index = bisect_right([entry[0] for entry in table], ip - 1) - 1
                if index < 0:
                    return None
                _, line, file, number = table[index]
                return line, file, number
        return None

    def _fill_main(self, prog: Prog, types: Any, engine: str) -> int:
        code = encode(prog.xlated.insns)
        insns = self._host.slab.kzalloc(max(len(code), 8), "bpf instructions")
        self._host.space.write(insns, code)
        view = types.view("bpf_prog", prog.address)
        view.jited = engine == "jit"
        view.type = int(prog.spec.type)
        view.sleepable = prog.spec.sleepable
        view.len = len(prog.xlated.insns)
        view.jited_len = len(prog.images[0][1].code)
        view.tag = bytes.fromhex(prog.tag)
        view.aux = prog.aux[0]
        view.insnsi = insns
        entry = prog.images[0][0] if engine == "jit" else self._host.machine.symbol("bpf_prog_run_interp")
        view.bpf_func = entry
        return int(insns)


HELPER_SYMBOLS = {
    1: "bpf_map_lookup_elem", 2: "bpf_map_update_elem", 3: "bpf_map_delete_elem", 5: "bpf_ktime_get_ns",
    6: "bpf_trace_printk", 7: "bpf_get_prandom_u32", 8: "bpf_get_smp_processor_id", 14: "bpf_get_current_pid_tgid",
    15: "bpf_get_current_uid_gid", 16: "bpf_get_current_comm", 35: "bpf_get_current_task",
    112: "bpf_probe_read_user", 113: "bpf_probe_read_kernel", 114: "bpf_probe_read_user_str",
    115: "bpf_probe_read_kernel_str", 118: "bpf_jiffies64", 125: "bpf_ktime_get_boot_ns", 148: "bpf_copy_from_user",
    158: "bpf_get_current_task_btf", 180: "bpf_find_vma", 181: "bpf_loop",
    191: "bpf_copy_from_user_task",
}


def helper_symbol(helper_id: int) -> str:
    """Kernel function behind a helper id; NotModelledError for one that kemu lacks."""
    if helper_id not in HELPER_SYMBOLS:
        raise NotModelledError(f"helper #{helper_id} is not modelled (docs/limitations.md)")
    return HELPER_SYMBOLS[helper_id]


def kfunc_ids(btf: Btf) -> dict[str, int]:
    """Name -> BTF id of every function tagged bpf_kfunc."""
    out = {}
    for kind in btf.types():
        if kind.kind is Kind.DECL_TAG and kind.name == "bpf_kfunc":
            func = btf.type(kind.type_id)
            out[func.name] = func.id
    return out
