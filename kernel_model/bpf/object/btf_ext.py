"""The .BTF.ext section: function records, line records and CO-RE relocations, by program section.

Mirrors btf_ext_parse() of tools/lib/bpf/btf.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf

BTF_MAGIC = 0xEB9F
_U32 = struct.Struct("<I")
_SECTION = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class CoreRelo:
    """struct bpf_core_relo; `insn_off` in bytes."""

    insn_off: int
    type_id: int
    access: str
    kind: int


@dataclass(slots=True)
class BtfExt:
    """Records by section name; offsets are bytes into the section."""

    funcs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # (insn_off, FUNC id)
    lines: dict[str, list[tuple[int, str, str, int, int]]] = field(default_factory=dict)
    relos: dict[str, list[CoreRelo]] = field(default_factory=dict)


def _records(name: str, data: bytes, off: int, length: int, least: int, btf: Btf, what: str) -> dict[str, list[bytes]]:
    """Sections of one of the three parts: name -> records."""
    out: dict[str, list[bytes]] = {}
    if not length:
        return out
    if length < 4 or off + length > len(data):
        raise ObjectFileError(f"{name}: .BTF.ext: {what}: truncated")
    size = _U32.unpack_from(data, off)[0]
    if size < least or size % 4 or size > 4096:
        raise ObjectFileError(f"{name}: .BTF.ext: {what}: bad record size {size}")
    at, end = off + 4, off + length
    while at < end:
        if at + 8 > end:
            raise ObjectFileError(f"{name}: .BTF.ext: {what}: truncated")
        section, count = _SECTION.unpack_from(data, at)
        at += 8
        if not count or at + count * size > end:
            raise ObjectFileError(f"{name}: .BTF.ext: {what}: {count} records do not fit")
        records = [data[at + i * size : at + (i + 1) * size] for i in range(count)]
        out.setdefault(btf.string(section), []).extend(records)
        at += count * size
    return out


def parse(name: str, data: bytes, btf: Btf) -> BtfExt:
    """Take the section apart; ObjectFileError naming `name` and the part that is not right."""
    if len(data) < 24:
        raise ObjectFileError(f"{name}: .BTF.ext: truncated: {len(data)} bytes are no header")
    magic, version, _, hdr_len = struct.unpack_from("<HBBI", data)
    if magic != BTF_MAGIC or version != 1 or hdr_len < 24 or hdr_len > len(data):
        raise ObjectFileError(f"{name}: .BTF.ext: bad header (magic 0x{magic:04x}, version {version})")
    func_off, func_len, line_off, line_len = struct.unpack_from("<4I", data, 8)
    core_off, core_len = struct.unpack_from("<2I", data, 24) if hdr_len >= 32 else (0, 0)
    ext = BtfExt()
    for section, records in _records(name, data, hdr_len + func_off, func_len, 8, btf, "func_info").items():
        ext.funcs[section] = [struct.unpack_from("<II", r) for r in records]
    for section, records in _records(name, data, hdr_len + line_off, line_len, 16, btf, "line_info").items():
        lines = []
        for record in records:
            insn_off, file_off, line_at, column = struct.unpack_from("<4I", record)
            lines.append((insn_off, btf.string(file_off), btf.string(line_at), column >> 10, column & 0x3FF))
        ext.lines[section] = lines
    for section, records in _records(name, data, hdr_len + core_off, core_len, 16, btf, "core_relo").items():
        relos = []
        for record in records:
            insn_off, type_id, access, kind = struct.unpack_from("<4I", record)
            relos.append(CoreRelo(insn_off, type_id, btf.string(access), kind))
        ext.relos[section] = relos
    return ext
