"""From a .bpf.o to programs and maps, as libbpf would hand them to the kernel.

Mirrors bpf_object_open(), bpf_object__relocate() and bpf_object__reloc_code() of tools/lib/bpf/libbpf.c. Subprograms
are appended to each program in the order in which calls first reach them. Leaves out struct_ops maps, .kconfig
values, typeless ksyms and light skeletons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from arch.bpf_isa import (
    BPF_CALL,
    BPF_JMP,
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    Insn,
    decode,
    s32,
)
from kernel_model.bpf.object import btf_ext, core_relo, elf, maps
from kernel_model.bpf.object.core_match import essential_name
from kernel_model.bpf.object.secdef import find_sec_def
from kernel_model.bpf.program import FuncInfo, LineInfo, MapSpec, MapType, ProgSpec
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Btf, Kind

_CALL = BPF_JMP | BPF_CALL
PAGE_SIZE = 4096
MAX_SUBPROGS = 256  # BPF_MAX_SUBPROGS: the kernel refuses more
UNRESOLVED_KFUNC_BASE = 2002000000  # POISON_CALL_KFUNC_BASE plus the extern's index: a weak kfunc the kernel lacks
BTF_FUNC_GLOBAL = 1


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


@dataclass(slots=True)
class _Function:
    """A program or subprogram in its section."""

    name: str
    section: elf.Section
    start: int  # first slot in the section
    insns: list[Insn]
    poisoned: dict[int, str] = field(default_factory=dict)  # slot -> relocation


class _Loader:
    def __init__(self, name: str, data: bytes, target: Btf, full_range: bool, absent: frozenset[str]) -> None:
        self.full_range = full_range
        self.absent = absent
        self.elf = elf.parse(name, data)
        self.name = name
        self.target = target
        self.btf = self._btf()
        self.ext = self._ext()
        self._refuse_what_is_not_modelled()
        self.license = self._text("license")
        self.object_name = Path(name).name.split(".")[0]
        self.maps: list[MapSpec] = []
        self.map_by_symbol: dict[str, int] = {}
        self.map_by_section: dict[int, int] = {}
        self.data_offset: dict[int, int] = {}  # section -> where in its map it begins, where not at 0
        self._collect_maps()
        self.externs = sorted({
            s.name for s in self.elf.symbols
            if s.name and s.section == elf.SHN_UNDEF and s.bind != elf.STB_LOCAL and s.kind == elf.STT_NOTYPE
        })
        self.functions: dict[int, list[_Function]] = {}
        self._collect_functions()
        self._apply_core()

    def bad(self, section: elf.Section | str, cause: str) -> ObjectFileError:
        where = section if isinstance(section, str) else section.name
        return ObjectFileError(f"{self.name}: section {where}: {cause}")

    def _btf(self) -> Btf | None:
        section = self.elf.section(".BTF")
        return Btf(section.data, self.name) if section is not None else None

    def _ext(self) -> btf_ext.BtfExt:
        section = self.elf.section(".BTF.ext")
        if section is None or self.btf is None:
            return btf_ext.BtfExt()
        return btf_ext.parse(self.name, section.data, self.btf)

    def _refuse_what_is_not_modelled(self) -> None:
        """Externs of .kconfig have no section of their own, only a DATASEC in BTF."""
        if self.btf is not None and self.btf.find(".kconfig", Kind.DATASEC) is not None:
            raise NotModelledError(f"{self.name}: .kconfig: kernel configuration variables are not modelled")
        for section in self.elf.sections:
            if section.name in (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link"):
                raise NotModelledError(f"{self.name}: section {section.name}: struct_ops maps are not modelled")

    def _text(self, section_name: str) -> str:
        section = self.elf.section(section_name)
        return section.data.split(b"\0", 1)[0].decode("ascii", "replace") if section is not None else ""

    # -- maps --------------------------------------------------------------------------------------------------------

    def _collect_maps(self) -> None:
        for symbol, spec in maps.defined_maps(self.elf, self.btf):
            self.map_by_symbol[symbol] = len(self.maps)
            self.maps.append(spec)
        for section in self.elf.sections:
            if section.name.startswith((".data", ".rodata", ".bss")) and section.data:
                if section.kind not in (elf.SHT_PROGBITS, elf.SHT_NOBITS):
                    continue
                self.map_by_section[section.index] = len(self.maps)
                self.maps.append(maps.data_map(self.btf, section, self.object_name))
            elif section.name == ".addr_space.1" and section.kind == elf.SHT_PROGBITS and section.data:
                self._arena_globals(section)

    def _arena_globals(self, section: elf.Section) -> None:
        """init_arena_map_data(), and where bpf_object__relocate() puts the variables: whole pages at the end of the
        arena since libbpf 1.7, at its start on kernels that do not take such an offset."""
        arenas = [i for i, m in enumerate(self.maps) if m.type == MapType.ARENA]
        if not arenas:
            raise self.bad(section, "to use global __arena variables the ARENA map should be explicitly declared")
        if len(arenas) > 1:
            other = self.maps[arenas[1]].name
            raise self.bad(section, f"only single ARENA map is supported (map '{other}' is also ARENA)")
        arena = self.maps[arenas[0]]
        room, needed = arena.max_entries * PAGE_SIZE, (len(section.data) + PAGE_SIZE - 1) & -PAGE_SIZE
        if needed > room:
            raise self.bad(section, f"declared ARENA map size ({room}) is too small to hold global __arena variables "
                                    f"of size {len(section.data)}")
        self.map_by_section[section.index] = arenas[0]
        self.data_offset[section.index] = room - needed if self.full_range else 0
        arena.initial, arena.initial_offset = section.data, self.data_offset[section.index]

    # -- functions ---------------------------------------------------------------------------------------------------

    def _collect_functions(self) -> None:
        for section in self.elf.sections:
            if section.kind != elf.SHT_PROGBITS or not section.flags & elf.SHF_EXECINSTR or not section.data:
                continue
            if len(section.data) % 8:
                raise self.bad(section, f"{len(section.data)} bytes are no whole number of instructions")
            insns = decode(section.data)
            found = []
            for symbol in self.elf.symbols:
                if symbol.section != section.index or symbol.kind != elf.STT_FUNC:
                    continue
                end = symbol.value + symbol.size
                if symbol.value % 8 or symbol.size % 8 or not symbol.size or end > len(section.data):
                    raise self.bad(section, f"function {symbol.name!r} is outside the section")
                if symbol.bind == elf.STB_LOCAL and section.name != ".text":
                    raise self.bad(section, f"program '{symbol.name}' is static and not supported")
                if section.name == ".text" and symbol.bind != elf.STB_LOCAL:
                    self._hide(symbol)
                start = symbol.value // 8
                found.append(_Function(symbol.name, section, start, insns[start : start + symbol.size // 8]))
            found.sort(key=lambda f: f.start)
            self.functions[section.index] = found

    def _hide(self, symbol: elf.Symbol) -> None:
        """A global subprogram that is __hidden is static for the verifier, which then knows its callers' arguments."""
        if self.btf is None or symbol.visibility not in (elf.STV_HIDDEN, elf.STV_INTERNAL):
            return
        for func in self.btf.find_all(symbol.name, Kind.FUNC):
            if func.vlen == BTF_FUNC_GLOBAL:
                self.btf.mark_static(func.id)
                break

    def _function_at(self, section: int, slot: int, where: str) -> _Function:
        for function in self.functions.get(section, ()):
            if function.start == slot:
                return function
        raise self.bad(where, f"a call or reference to slot {slot} of section {section}, where no function begins")

    def _apply_core(self) -> None:
        if self.btf is None:
            return
        relocator = core_relo.Relocator(self.btf, self.target)
        for functions in self.functions.values():
            for function in functions:
                for relo in self.ext.relos.get(function.section.name, ()):
                    index = relo.insn_off // 8 - function.start
                    if 0 <= index < len(function.insns):
                        if relo.insn_off % 8:
                            raise self.bad(".BTF.ext", f"CO-RE relocation at {relo.insn_off}: not an instruction")
                        wrong = core_relo.patch(function.insns, index, relocator.resolve(relo))
                        if core_relo.is_poison(function.insns[index]):
                            function.poisoned[index] = relocator.format_spec(relo)
                        if wrong is not None:
                            what = f"CO-RE relocation {relocator.describe(relo)} at {relo.insn_off}"
                            raise self.bad(function.section, f"{what}: {wrong}")

    # -- relocation --------------------------------------------------------------------------------------------------

    def _relocate(self, function: _Function) -> dict[int, tuple[_Function, bool]]:
        """Resolve what `function` refers to, in place; slot -> (function referred to, by address) for the rest."""
        references: dict[int, tuple[_Function, bool]] = {}
        insns, first = function.insns, function.start
        seen = set()
        for relo in function.section.relocations:
            slot = relo.offset // 8 - first
            if not 0 <= slot < len(insns):
                continue
            if relo.offset % 8:
                raise self.bad(function.section, f"relocation at {relo.offset}: not an instruction")
            seen.add(slot)
            insn = insns[slot]
            if insn.is_ld_imm64 and slot + 1 < len(insns):
                target = self._relocate_ld_imm64(function, insns, slot, relo.symbol)
                if target is not None:
                    references[slot] = (target, True)
            elif insn.code == _CALL:
                callee = self._relocate_call(function, insn, relo.symbol)
                if callee is not None:
                    references[slot] = (callee, False)
            else:
                raise self.bad(function.section, f"relocation at {relo.offset} of opcode 0x{insn.code:02x}")
        for slot, insn in enumerate(insns):
            if slot not in seen and insn.code == _CALL and insn.src == BPF_PSEUDO_CALL:
                at = first + slot + insn.imm + 1
                references[slot] = (self._function_at(function.section.index, at, function.section.name), False)
        return references

    def _relocate_ld_imm64(
        self, function: _Function, insns: list[Insn], slot: int, symbol: elf.Symbol
    ) -> _Function | None:
        insn = insns[slot]
        if symbol.name in self.map_by_symbol and symbol.kind != elf.STT_SECTION:
            insn.src, insn.imm = BPF_PSEUDO_MAP_FD, self.map_by_symbol[symbol.name]
            insns[slot + 1].imm = 0
            return None
        if symbol.section in self.map_by_section:
            offset = s32(symbol.value + insn.imm + self.data_offset.get(symbol.section, 0))
            insn.src, insn.imm = BPF_PSEUDO_MAP_VALUE, self.map_by_section[symbol.section]
            insns[slot + 1].imm = offset
            return None
        if symbol.section in self.functions:
            return self._function_at(symbol.section, symbol.value // 8 + insn.imm // 8, function.section.name)
        if symbol.section == elf.SHN_UNDEF:
            self._relocate_extern(function, insns, slot, symbol)
            return None
        raise self.bad(function.section, f"unexpected relocation against '{symbol.name}'")

    def _relocate_extern(self, function: _Function, insns: list[Insn], slot: int, symbol: elf.Symbol) -> None:
        var = self.btf.find(symbol.name, Kind.VAR) if self.btf is not None else None
        if var is not None and self.btf is not None and self.btf.resolve(var.type_id).kind is Kind.UNKN:
            raise NotModelledError(f"{self.name}: extern '{symbol.name}': typeless ksyms are not modelled")
        found = self.target.find(essential_name(symbol.name), Kind.FUNC, Kind.VAR)
        if found is None:
            if symbol.bind != elf.STB_WEAK:
                raise self.bad(function.section, f"extern (ksym) '{symbol.name}': not found in kernel or module BTFs")
            insns[slot].src = insns[slot].imm = insns[slot + 1].imm = 0
            return
        insns[slot].src, insns[slot].imm, insns[slot + 1].imm = BPF_PSEUDO_BTF_ID, found.id, 0

    def _relocate_call(self, function: _Function, insn: Insn, symbol: elf.Symbol) -> _Function | None:
        if symbol.section != elf.SHN_UNDEF:
            at = symbol.value // 8 + insn.imm + 1
            return self._function_at(symbol.section, at, function.section.name)
        name = essential_name(symbol.name)
        found = self.target.find(name, Kind.FUNC) if name not in self.absent else None
        if found is not None:
            insn.src, insn.imm, insn.off = BPF_PSEUDO_KFUNC_CALL, found.id, 0
        elif symbol.bind == elf.STB_WEAK:
            if symbol.name not in self.externs:
                raise self.bad(function.section, f"call of '{symbol.name}', which is no extern")
            insn.src, insn.imm, insn.off = 0, UNRESOLVED_KFUNC_BASE + self.externs.index(symbol.name), 0
        else:
            raise self.bad(function.section, f"extern (func ksym) '{symbol.name}': not found in kernel or module BTFs")
        return None

    # -- programs ----------------------------------------------------------------------------------------------------

    def programs(self) -> list[ProgSpec]:
        """Every entry program: functions of sections other than .text."""
        out = []
        for functions in self.functions.values():
            for function in functions:
                if function.section.name == ".text":
                    continue
                out.append(self._program(function))
        return out

    def _program(self, entry: _Function) -> ProgSpec:
        section = entry.section.name
        autoload = not section.startswith("?")
        found = find_sec_def(section.removeprefix("?"))
        if found is None:
            raise self.bad(section, "no program type belongs to this name")
        row, attach_to = found
        spec = ProgSpec(entry.name, section, row.type, [], row.attach_type, attach_to, row.sleepable, autoload,
                        license=self.license, externs=self.externs)
        self._append(spec, entry, {})
        return spec

    def _append(self, spec: ProgSpec, function: _Function, placed: dict[tuple[int, int], int]) -> int:
        """bpf_object__reloc_code(): put `function` at the end, then what it calls; its first slot."""
        copy = _Function(function.name, function.section, function.start, [i.copy() for i in function.insns])
        base = len(spec.insns)
        if base + len(copy.insns) > 1_000_000:
            raise self.bad(function.section, "a program of more than a million instructions")
        if len(placed) >= MAX_SUBPROGS:
            raise self.bad(function.section, f"a program of more than {MAX_SUBPROGS} functions")
        placed[function.section.index, function.start] = base
        references = self._relocate(copy)
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

    def _infos(self, spec: ProgSpec, function: _Function, base: int) -> None:
        low, high = function.start, function.start + len(function.insns)
        for off, type_id in self.ext.funcs.get(function.section.name, ()):
            if low <= off // 8 < high:
                spec.func_info.append(FuncInfo(off // 8 - low + base, type_id))
        for off, file, line, number, column in self.ext.lines.get(function.section.name, ()):
            if low <= off // 8 < high:
                spec.line_info.append(LineInfo(off // 8 - low + base, file, line, number, column))

    def variables(self) -> dict[str, Variable]:
        """Named symbols of data sections."""
        out = {}
        for symbol in self.elf.symbols:
            named = symbol.name and symbol.kind in (elf.STT_OBJECT, elf.STT_NOTYPE)
            if named and symbol.section in self.map_by_section:
                offset = symbol.value + self.data_offset.get(symbol.section, 0)
                out[symbol.name] = Variable(self.map_by_section[symbol.section], offset, symbol.size)
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
    loader = _Loader(title, data, target_btf, full_range, absent)
    progs = loader.programs()
    if not progs:
        raise ObjectFileError(f"{title}: the object has no programs")
    return BpfObject(title, loader.maps, progs, loader.btf, loader.license, loader.variables())
