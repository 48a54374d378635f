"""From a .bpf.o to programs and maps, as libbpf would hand them to the kernel.

Mirrors bpf_object__relocate() and bpf_object__reloc_code() of tools/lib/bpf/libbpf.c. Subprograms are appended to each
program in the order in which calls first reach them. Leaves out struct_ops maps, .kconfig values, typeless ksyms and
light skeletons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from arch.bpf_isa import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC
from kernel_model.bpf.object import elf
from kernel_model.bpf.object.opened import Function, OpenedObject
from kernel_model.bpf.object.reloc import Relocations
from kernel_model.bpf.object.secdef import find_sec_def
from kernel_model.bpf.program import FuncInfo, LineInfo, MapSpec, ProgSpec
from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf

MAX_SUBPROGS = 256  # BPF_MAX_SUBPROGS: the kernel refuses more
MAX_INSNS = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS: so does a longer program


@dataclass(frozen=True, slots=True)
class Variable:
    """A global variable: which map of the object, offset and size in bytes."""

    map_index: int
    offset: int
    size: int


@dataclass(slots=True)
class BpfObject:
    """One object file, ready to be loaded."""

    name: str
    maps: list[MapSpec]
    progs: list[ProgSpec]
    btf: Btf | None
    license: str
    variables: dict[str, Variable] = field(default_factory=dict)

    def prog(self, name: str) -> ProgSpec:
        """The program called `name`; ObjectFileError lists those there are."""
        for prog in self.progs:
            if prog.name == name:
                return prog
        known = ", ".join(p.name for p in self.progs)
        raise ObjectFileError(f"{self.name}: no program {name!r}; it has {known}")


class _Linker:
    """Puts programs together from the functions of one object."""

    def __init__(self, obj: OpenedObject) -> None:
        self._obj = obj
        self._relocations = Relocations(obj)

    def programs(self) -> list[ProgSpec]:
        """Every entry program: functions of sections other than .text."""
        out = []
        for functions in self._obj.functions.values():
            for function in functions:
                if function.section.name == ".text":
                    continue
                out.append(self._program(function))
        return out

    def _program(self, entry: Function) -> ProgSpec:
        section = entry.section.name
        autoload = not section.startswith("?")
        found = find_sec_def(section.removeprefix("?"))
        if found is None:
            raise self._obj.bad(section, "no program type belongs to this name")
        row, attach_to = found
        spec = ProgSpec(entry.name, section, row.type, [], row.attach_type, attach_to, row.sleepable, autoload,
                        license=self._obj.license, externs=self._obj.externs)
        self._append(spec, entry, {})
        return spec

    def _append(self, spec: ProgSpec, function: Function, placed: dict[tuple[int, int], int]) -> int:
        """bpf_object__reloc_code(): put `function` at the end, then what it calls; its first slot."""
        copy = Function(function.name, function.section, function.start, [i.copy() for i in function.insns])
        base = len(spec.insns)
        if base + len(copy.insns) > MAX_INSNS:
            raise self._obj.bad(function.section, "a program of more than a million instructions")
        if len(placed) >= MAX_SUBPROGS:
            raise self._obj.bad(function.section, f"a program of more than {MAX_SUBPROGS} functions")
        placed[function.section.index, function.start] = base
        references = self._relocations.relocate(copy)
        spec.insns.extend(copy.insns)
        spec.subprogs.append((function.name, base))
        spec.poisoned.update((base + slot, text) for slot, text in function.poisoned.items())
        self._infos(spec, function, base)
        for slot, (target, by_address) in sorted(references.items(), key=lambda item: item[0]):
            at = placed.get((target.section.index, target.start))
            if at is None:
                at = self._append(spec, target, placed)
            insn = spec.insns[base + slot]
            insn.imm = at - (base + slot) - 1
            insn.src = BPF_PSEUDO_FUNC if by_address else BPF_PSEUDO_CALL
            if by_address:
                spec.insns[base + slot + 1].imm = 0
        return base

    def _infos(self, spec: ProgSpec, function: Function, base: int) -> None:
        low, high = function.start, function.start + len(function.insns)
        for off, type_id in self._obj.ext.funcs.get(function.section.name, ()):
            if low <= off // 8 < high:
                spec.func_info.append(FuncInfo(off // 8 - low + base, type_id))
        for off, file, line, number, column in self._obj.ext.lines.get(function.section.name, ()):
            if low <= off // 8 < high:
                spec.line_info.append(LineInfo(off // 8 - low + base, file, line, number, column))

    def variables(self) -> dict[str, Variable]:
        """Named symbols of data sections."""
        out = {}
        for symbol in self._obj.elf.symbols:
            named = symbol.name and symbol.kind in (elf.STT_OBJECT, elf.STT_NOTYPE)
            if named and symbol.section in self._obj.map_by_section:
                offset = symbol.value + self._obj.data_offset.get(symbol.section, 0)
                out[symbol.name] = Variable(self._obj.map_by_section[symbol.section], offset, symbol.size)
        return out


def load_object(
    source: str | Path | bytes, target_btf: Btf, name: str | None = None, *, full_range: bool = True,
    absent: frozenset[str] = frozenset(),
) -> BpfObject:
    """Open a BPF object: `source` a path or the file's bytes, `target_btf` the kernel's types, without the functions
    named in `absent`.

    `full_range`: the kernel takes any offset into a map (libbpf's feature "full range LDIMM64 support").
    Raises ObjectFileError naming file, section and cause, NotModelledError for conventions that kemu lacks.
    """
    if isinstance(source, bytes):
        data, title = source, name or "object"
    else:
        title = name or str(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ObjectFileError(f"{title}: {error.strerror}") from None
    opened = OpenedObject(title, data, target_btf, full_range, absent)
    linker = _Linker(opened)
    progs = linker.programs()
    if not progs:
        raise ObjectFileError(f"{title}: the object has no programs")
    return BpfObject(title, opened.maps, progs, opened.btf, opened.license, linker.variables())
