"""Writes BTF. Mirrors what pahole and libbpf's btf__add_*() make; strings are shared, the order is the caller's."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from kernel_model.errors import ObjectFileError
from kernel_model.types.btf import BTF_MAGIC, Kind, Member

_MAX_VLEN = 0xFFFF
_MAX_BITFIELD_OFFSET = 0xFFFFFF


@dataclass(slots=True)
class BtfWriter:
    """Collects types; ids count from 1 in the order of the add calls, references may go forward."""

    _types: list[bytes] = field(default_factory=list)
    _strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    _offsets: dict[str, int] = field(default_factory=lambda: {"": 0})

    def _string(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._offsets[text]

    def _add(self, name: str, kind: Kind, vlen: int, size_or_type: int, extra: bytes = b"", flag: bool = False) -> int:
        if vlen > _MAX_VLEN:
            what = f"{kind.name} {name or '(anonymous)'}"
            raise ObjectFileError(f".BTF: {what}: {vlen} items, BTF has room for {_MAX_VLEN}")
        info = vlen | kind << 24 | flag << 31
        self._types.append(struct.pack("<III", self._string(name), info, size_or_type) + extra)
        return len(self._types)

    def int_(self, name: str, size: int, *, signed: bool = False, boolean: bool = False) -> int:
        """INT of `size` bytes; its id."""
        encoding = (1 if signed else 0) | (4 if boolean else 0)
        return self._add(name, Kind.INT, 0, size, struct.pack("<I", encoding << 24 | size * 8))

    def float_(self, name: str, size: int) -> int:
        """FLOAT of `size` bytes; its id."""
        return self._add(name, Kind.FLOAT, 0, size)

    def ref(self, kind: Kind, type_id: int, name: str = "", linkage: int = 0) -> int:
        """PTR, TYPEDEF, CONST, VOLATILE, RESTRICT, FUNC (vlen is its linkage), TYPE_TAG; its id."""
        return self._add(name, kind, linkage, type_id)

    def fwd(self, name: str, *, union: bool = False) -> int:
        """FWD; its id."""
        return self._add(name, Kind.FWD, 0, 0, flag=union)

    def array(self, element: int, index: int, count: int) -> int:
        """ARRAY; its id."""
        return self._add("", Kind.ARRAY, 0, 0, struct.pack("<III", element, index, count))

    def composite(self, kind: Kind, name: str, size: int, members: list[Member]) -> int:
        """STRUCT or UNION of `size` bytes; its id."""
        flag = any(m.bitfield_size for m in members)
        if flag and any(m.bit_offset > _MAX_BITFIELD_OFFSET for m in members):
            raise ObjectFileError(f".BTF: {kind.name} {name or '(anonymous)'}: too large for a struct with bitfields")
        extra = b"".join(
            struct.pack("<III", self._string(m.name), m.type_id, m.bit_offset | m.bitfield_size << 24) for m in members
        )
        return self._add(name, kind, len(members), size, extra, flag)

    def enum(self, name: str, size: int, values: list[tuple[str, int]]) -> int:
        """ENUM, or ENUM64 where `size` is 8 or a value needs more than 32 bits; its id."""
        signed = any(v < 0 for _, v in values)
        if size > 4 or any(not -(1 << 31) <= v < 1 << 32 for _, v in values):
            wide = (struct.pack("<III", self._string(n), v & 0xFFFFFFFF, v >> 32 & 0xFFFFFFFF) for n, v in values)
            return self._add(name, Kind.ENUM64, len(values), size, b"".join(wide), signed)
        extra = b"".join(struct.pack("<II", self._string(n), v & 0xFFFFFFFF) for n, v in values)
        return self._add(name, Kind.ENUM, len(values), size, extra, signed)

    def func_proto(self, result: int, params: list[tuple[str, int]]) -> int:
        """FUNC_PROTO; its id."""
        extra = b"".join(struct.pack("<II", self._string(n), t) for n, t in params)
        return self._add("", Kind.FUNC_PROTO, len(params), result, extra)

    def decl_tag(self, name: str, type_id: int, component: int = -1) -> int:
        """DECL_TAG; its id."""
        return self._add(name, Kind.DECL_TAG, 0, type_id, struct.pack("<i", component))

    def encode(self) -> bytes:
        """The .BTF section."""
        types = b"".join(self._types)
        header = struct.pack("<HBBIIIII", BTF_MAGIC, 1, 0, 24, 0, len(types), len(types), len(self._strings))
        return header + types + bytes(self._strings)
