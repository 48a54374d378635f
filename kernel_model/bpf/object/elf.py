"""ELF relocatable objects for the BPF machine, taken apart with every bound checked.

Mirrors what libelf gives libbpf. Only what clang emits: little-endian ELF64, EM_BPF, REL relocations.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from kernel_model.errors import ObjectFileError

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")
MAX_CONTENT = 64 << 20  # bytes of all sections: bounds what a damaged header can make of a small file
EM_BPF, EM_NONE = 247, 0
ET_REL = 1
SHT_PROGBITS, SHT_SYMTAB, SHT_NOBITS, SHT_REL = 1, 2, 8, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_INTERNAL, STV_HIDDEN = 1, 2
SHN_UNDEF = 0
R_BPF_64_64, R_BPF_64_32 = 1, 10


@dataclass(slots=True)
class Symbol:
    """One symbol; `section` is a section index, 0 for an extern."""

    name: str
    value: int
    size: int
    kind: int
    bind: int
    section: int
    visibility: int = 0  # STV_*


@dataclass(slots=True)
class Relocation:
    """One entry of a .rel section: `offset` in bytes into its target section."""

    offset: int
    symbol: Symbol
    kind: int


@dataclass(slots=True)
class Section:
    """One section; `data` is zeroes for SHT_NOBITS."""

    index: int
    name: str
    kind: int
    flags: int
    data: bytes
    relocations: list[Relocation] = field(default_factory=list)


@dataclass(slots=True)
class ElfObject:
    """All sections and symbols of one object."""

    name: str
    sections: list[Section]
    symbols: list[Symbol]

    def section(self, name: str) -> Section | None:
        """The first section called `name`."""
        return next((s for s in self.sections if s.name == name), None)


class _Reader:
    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data

    def bad(self, cause: str) -> ObjectFileError:
        return ObjectFileError(f"{self.name}: {cause}")

    def slice(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self.data):
            raise self.bad(f"{what}: truncated: ends at {offset + size} of {len(self.data)} bytes")
        return self.data[offset : offset + size]

    def string(self, table: bytes, offset: int, what: str) -> str:
        end = table.find(b"\0", offset)
        if offset >= len(table) or end < 0:
            raise self.bad(f"{what}: name offset {offset} is outside the string table")
        return table[offset:end].decode("utf-8", "replace")


def parse(name: str, data: bytes) -> ElfObject:
    """Take `data` apart. ObjectFileError naming `name`, the section and the cause for whatever is not right."""
    reader = _Reader(name, data)
    header = _EHDR.unpack(reader.slice(0, _EHDR.size, "ELF header"))
    ident, kind, machine = header[:3]
    shoff, shentsize, shnum, shstrndx = header[6], header[11], header[12], header[13]
    if ident[:4] != b"\x7fELF":
        raise reader.bad("not an ELF file")
    if ident[4:6] != b"\2\1":
        raise reader.bad("not a little-endian ELF64 file")
    if kind != ET_REL or machine not in (EM_BPF, EM_NONE):
        raise reader.bad(f"not a BPF object: ELF type {kind}, machine {machine}")
    if shentsize != _SHDR.size or not shnum:
        raise reader.bad(f"section headers: {shnum} of {shentsize} bytes")
    raw = list(_SHDR.iter_unpack(reader.slice(shoff, shnum * _SHDR.size, "section headers")))
    if shstrndx >= shnum:
        raise reader.bad(f"section headers: name table index {shstrndx} of {shnum}")
    names = reader.slice(raw[shstrndx][4], raw[shstrndx][5], "section name table")
    sections, room = [], MAX_CONTENT
    for index, entry in enumerate(raw):
        name_at, sh_type, flags, _, offset, size = entry[:6]
        section_name = reader.string(names, name_at, f"section {index}")
        room -= size if sh_type else 0
        if room < 0:
            raise reader.bad(f"section {section_name}: {size} bytes; all sections may have {MAX_CONTENT >> 20} MiB")
        if sh_type == SHT_NOBITS:
            content = bytes(size)
        else:
            content = reader.slice(offset, size, f"section {section_name}") if sh_type else b""
        sections.append(Section(index, section_name, sh_type, flags, content))
    symbols = _symbols(reader, sections, raw)
    _relocations(reader, sections, raw, symbols)
    return ElfObject(name, sections, symbols)


def _symbols(reader: _Reader, sections: list[Section], raw: list[tuple[int, ...]]) -> list[Symbol]:
    table = next((s for s in sections if s.kind == SHT_SYMTAB), None)
    if table is None:
        raise reader.bad("no symbol table")
    link = raw[table.index][6]
    if link >= len(sections) or len(table.data) % _SYM.size:
        raise reader.bad(f"section {table.name}: corrupt symbol table")
    strings = sections[link].data
    out = []
    for name_at, info, other, index, value, size in _SYM.iter_unpack(table.data):
        name = reader.string(strings, name_at, f"section {table.name}") if name_at else ""
        if info & 15 == STT_SECTION and index < len(sections):
            name = sections[index].name
        out.append(Symbol(name, value, size, info & 15, info >> 4, index, other & 3))
    return out


def _relocations(
    reader: _Reader, sections: list[Section], raw: list[tuple[int, ...]], symbols: list[Symbol]
) -> None:
    for section in sections:
        if section.kind != SHT_REL:
            continue
        target = raw[section.index][7]
        if target >= len(sections) or len(section.data) % _REL.size:
            raise reader.bad(f"section {section.name}: corrupt relocations")
        for offset, info in _REL.iter_unpack(section.data):
            index = info >> 32
            if index >= len(symbols) or offset >= max(len(sections[target].data), 1):
                raise reader.bad(f"section {section.name}: relocation at {offset} of symbol {index} is out of range")
            sections[target].relocations.append(Relocation(offset, symbols[index], info & 0xFFFFFFFF))
