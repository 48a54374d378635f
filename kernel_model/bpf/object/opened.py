"""An object file taken apart: what it defines, before anything in it refers to the kernel or to each other.

Mirrors bpf_object_open() and bpf_object__relocate_core() of tools/lib/bpf/libbpf.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from arch.bpf_isa import Insn, decode
from arch.interface import PAGE_SIZE
from kernel_model.bpf.object import btf_ext, core_relo, elf, maps
from kernel_model.bpf.program import MapSpec, MapType
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Btf, Kind

BTF_FUNC_GLOBAL = 1


@dataclass(slots=True)
class Function:
    """A program or subprogram in its section."""

    name: str
    section: elf.Section
    start: int  # first slot in the section
    insns: list[Insn]
    poisoned: dict[int, str] = field(default_factory=dict)  # slot -> relocation


class OpenedObject:
    """The file taken apart: maps, functions with their CO-RE relocations applied, names of what others define."""

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
        self.functions: dict[int, list[Function]] = {}
        self._collect_functions()
        self._apply_core()

    def bad(self, section: elf.Section | str, cause: str) -> ObjectFileError:
        """What is wrong with a section, as an error to raise."""
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
                found.append(Function(symbol.name, section, start, insns[start : start + symbol.size // 8]))
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

    def function_at(self, section: int, slot: int, where: str) -> Function:
        """The function that begins at `slot` of section number `section`. ObjectFileError names section `where`."""
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
