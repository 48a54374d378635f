"""The kernel image: an ELF file taken apart for boot.

Mirrors what a boot loader and kallsyms get from vmlinux: segments with their physical addresses, symbols, and the
sections that the kernel finds by name. Read with struct because boot has a budget of milliseconds; DWARF is left to
debuggers. Only little-endian ELF64, as images/build.py makes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from kernel_model.errors import ObjectFileError

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
PT_LOAD = 1
STT_OBJECT, STT_FUNC, STT_NOTYPE = 1, 2, 0
PF_X, PF_W = 1, 2


@dataclass(frozen=True, slots=True)
class Segment:
    """One loadable segment."""

    va: int
    pa: int
    data: bytes
    size: int  # in memory
    writable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol that kallsyms would list."""

    name: str
    address: int
    size: int
    is_function: bool
    section: str


@dataclass(slots=True)
class Image:
    """Everything boot needs of one vmlinux."""

    name: str
    segments: list[Segment]
    symbols: list[Symbol]  # functions and objects, in the file's order
    addresses: dict[str, int]  # every named symbol, labels included
    sections: dict[str, tuple[int, int]]  # name -> (address, size)
    _data: bytes

    def section_data(self, name: str) -> bytes:
        """Bytes of a section as loaded; ObjectFileError where the image has none of that name."""
        if name not in self.sections:
            raise ObjectFileError(f"{self.name}: no section {name}")
        address, size = self.sections[name]
        return self.bytes_at(address, size)

    def bytes_at(self, va: int, size: int) -> bytes:
        """Initial contents of [va, va + size)."""
        for segment in self.segments:
            if segment.va <= va and va + size <= segment.va + len(segment.data):
                return segment.data[va - segment.va : va - segment.va + size]
        raise ObjectFileError(f"{self.name}: nothing is loaded at {va:#x}")

    def kcall_table(self) -> list[tuple[str, str]]:
        """(name, signature) of each kcall stub in order of its index."""
        start, end = self.addresses["__kcall_names_start"], self.addresses["__kcall_names_end"]
        table = []
        for entry in self.bytes_at(start, end - start).split(b"\0"):
            if entry:
                name, signature = entry.decode().split(":")
                table.append((name, signature))
        return table


def _string(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


def load_image(path: Path) -> Image:
    """Read a vmlinux. ObjectFileError naming the file and the cause where it is not one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ObjectFileError(f"{path}: {error.strerror}") from None
    try:
        return _parse(path.name, data)
    except (struct.error, ValueError, IndexError) as error:
        raise ObjectFileError(f"{path}: truncated or corrupt ELF file ({error})") from None


def _parse(name: str, data: bytes) -> Image:
    ident, _, _, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = _EHDR.unpack_from(data)
    if ident[:6] != b"\x7fELF\x02\x01":
        raise ObjectFileError(f"{name}: not a little-endian ELF64 file")
    segments = []
    for i in range(phnum):
        kind, flags, offset, va, pa, filesz, memsz, _ = _PHDR.unpack_from(data, phoff + i * phentsize)
        if kind == PT_LOAD:
            content = data[offset : offset + filesz]
            segments.append(Segment(va, pa, content, memsz, bool(flags & PF_W), bool(flags & PF_X)))
    headers = [_SHDR.unpack_from(data, shoff + i * shentsize) for i in range(shnum)]
    names_at = headers[shstrndx]
    names = data[names_at[4] : names_at[4] + names_at[5]]
    section_names = [_string(names, h[0]) for h in headers]
    sections = {n: (h[3], h[5]) for n, h in zip(section_names, headers, strict=True) if h[3]}
    symbols: list[Symbol] = []
    addresses: dict[str, int] = {}
    for header, section in zip(headers, section_names, strict=True):
        if section == ".symtab":
            strings_at = headers[header[6]]
            strings = data[strings_at[4] : strings_at[4] + strings_at[5]]
            for entry in _SYM.iter_unpack(data[header[4] : header[4] + header[5]]):
                name_at, info, _, index, value, size = entry
                if not name_at or not 0 < index < 0xFF00:
                    if name_at and index == 0xFFF1:
                        addresses.setdefault(_string(strings, name_at), value)
                    continue
                symbol = _string(strings, name_at)
                if info >> 4:
                    addresses[symbol] = value  # a global symbol, before any file's own of that name
                else:
                    addresses.setdefault(symbol, value)
                if info & 15 in (STT_FUNC, STT_OBJECT):
                    symbols.append(Symbol(symbol, value, size, info & 15 == STT_FUNC, section_names[index]))
    return Image(name, segments, symbols, addresses, sections, data)
