"""BTF: the kernel's own description of its types, read lazily.

Mirrors include/uapi/linux/btf.h and the checks of kernel/bpf/btf.c that a reader needs. A whole distribution kernel
(over 100,000 types) opens in one pass that only notes where each type begins; types are decoded when asked for.

    struct btf_type { u32 name_off; u32 info: vlen [15:0], kind [28:24], kind_flag [31]; u32 size or type; } + extra
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from kernel_model.errors import ObjectFileError

BTF_MAGIC = 0xEB9F
MAX_RESOLVE_DEPTH = 32


class Kind(IntEnum):
    """BTF_KIND_*."""

    UNKN = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
_SIZED = frozenset({Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.DATASEC})
# extra bytes behind struct btf_type: (fixed, for each of vlen)
_EXTRA = ((0, 0), (4, 0), (0, 0), (12, 0), (0, 12), (0, 12), (0, 8), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0),
          (0, 8), (4, 0), (0, 12), (0, 0), (4, 0), (0, 0), (0, 12))
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_U32 = struct.Struct("<I")
_TWO = struct.Struct("<II")
_THREE = struct.Struct("<III")
_ENUMERATOR = struct.Struct("<Ii")


@dataclass(frozen=True, slots=True)
class Member:
    """A struct or union member; `bit_offset` from the start, `bitfield_size` 0 unless it is a bitfield.

    `by_type`: the struct does not say so itself (kind_flag 0), its INT does; CO-RE knows no such bitfields.
    """

    name: str
    type_id: int
    bit_offset: int
    bitfield_size: int  # bits
    by_type: bool = False


@dataclass(frozen=True, slots=True)
class BtfType:
    """One type. `items` are Member, (name, value), (name, type id) or (type id, offset, size) by kind."""

    id: int
    kind: Kind
    name: str
    size: int  # bytes, for kinds that have one
    type_id: int  # what it refers to, for kinds that refer
    flag: bool
    vlen: int
    extra: int = 0  # INT: encoding word; VAR: linkage; DECL_TAG: component index (as unsigned)
    items: tuple[object, ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """Members of a STRUCT or UNION."""
        return self.items  # type: ignore[return-value]

    @property
    def params(self) -> tuple[tuple[str, int], ...]:
        """(name, type id) of a FUNC_PROTO; a variadic one ends in ("", 0)."""
        return self.items  # type: ignore[return-value]

    @property
    def values(self) -> tuple[tuple[str, int], ...]:
        """(name, value) of an ENUM or ENUM64."""
        return self.items  # type: ignore[return-value]

    @property
    def vars(self) -> tuple[tuple[int, int, int], ...]:
        """(type id, offset, size) of a DATASEC."""
        return self.items  # type: ignore[return-value]

    @property
    def array(self) -> tuple[int, int, int]:
        """(element type id, index type id, number of elements) of an ARRAY."""
        return self.items  # type: ignore[return-value]

    @property
    def int_signed(self) -> bool:
        """True for a signed INT."""
        return bool(self.extra >> 24 & 1)

    @property
    def int_bool(self) -> bool:
        """True for a boolean INT."""
        return bool(self.extra >> 24 & 4)


class Btf:
    """One .BTF section; `base` is the kernel's where this is split BTF of a module."""

    def __init__(self, data: bytes, name: str, base: Btf | None = None) -> None:
        """Raises ObjectFileError naming `name` (file, or file and section) and the cause."""
        self.name = name
        self.base = base
        self._first = base.type_count if base is not None else 1
        self._first_string = base.string_size if base is not None else 0
        self._types, self._strings = self._sections(data)
        self._offsets = self._index()
        self._cache: dict[int, BtfType] = {}
        self._by_name: dict[int, list[int]] | None = None

    def _bad(self, cause: str) -> ObjectFileError:
        return ObjectFileError(f"{self.name}: .BTF: {cause}")

    def _sections(self, data: bytes) -> tuple[bytes, bytes]:
        if len(data) < _HEADER.size:
            raise self._bad(f"truncated: {len(data)} bytes are no header")
        magic, version, _, hdr_len, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != BTF_MAGIC:
            raise self._bad(f"bad magic 0x{magic:04x}")
        if version != 1:
            raise self._bad(f"unsupported version {version}")
        if hdr_len < _HEADER.size or hdr_len > len(data):
            raise self._bad(f"bad header length {hdr_len}")
        for what, off, length in (("type", type_off, type_len), ("string", str_off, str_len)):
            if hdr_len + off + length > len(data):
                raise self._bad(f"truncated: the {what} section ends at {hdr_len + off + length} of {len(data)} bytes")
        strings = data[hdr_len + str_off : hdr_len + str_off + str_len]
        if self.base is None and (not strings or strings[0]) or strings and strings[-1]:
            raise self._bad("the string section does not begin and end with NUL")
        return data[hdr_len + type_off : hdr_len + type_off + type_len], strings

    def _index(self) -> list[int]:
        """Offset of every type in the type section."""
        types, at, end = self._types, 0, len(self._types)
        offsets: list[int] = []
        info_at = _U32.unpack_from
        last = len(_EXTRA)
        while at < end:
            if end - at < 12:
                raise self._bad(f"truncated: type [{self._first + len(offsets)}]")
            info = info_at(types, at + 4)[0]
            kind = info >> 24 & 0x1F
            if not 0 < kind < last:
                raise self._bad(f"type [{self._first + len(offsets)}] has unknown kind {kind}")
            offsets.append(at)
            fixed, each = _EXTRA[kind]
            at += 12 + fixed + each * (info & 0xFFFF)
        if at != end:
            raise self._bad(f"truncated: type [{self._first + len(offsets) - 1}]")
        return offsets

    @property
    def type_count(self) -> int:
        """One more than the highest type id (0 is void)."""
        return self._first + len(self._offsets)

    @property
    def string_size(self) -> int:
        """Bytes of all strings, the base's included."""
        return self._first_string + len(self._strings)

    def string(self, offset: int) -> str:
        """The string at `offset`; ObjectFileError outside the section."""
        if self.base is not None and offset < self._first_string:
            return self.base.string(offset)
        at = offset - self._first_string
        if not 0 <= at < max(len(self._strings), 1):
            raise self._bad(f"string offset {offset} is out of range")
        end = self._strings.find(b"\0", at)
        return self._strings[at:end].decode("utf-8", "replace") if end >= 0 else ""

    def type(self, type_id: int) -> BtfType:
        """The type with that id; ObjectFileError for an id that does not exist. Id 0 is void."""
        if type_id == 0:
            return BtfType(0, Kind.UNKN, "void", 0, 0, False, 0)
        if self.base is not None and 0 < type_id < self._first:
            return self.base.type(type_id)
        found = self._cache.get(type_id)
        if found is None:
            index = type_id - self._first
            if not 0 <= index < len(self._offsets):
                raise self._bad(f"type id {type_id} is out of range")
            found = self._cache[type_id] = self._decode(type_id, self._offsets[index])
        return found

    def mark_static(self, func_id: int) -> None:
        """Make the FUNC's linkage BTF_FUNC_STATIC, for whoever reads this BTF from now on."""
        self._cache[func_id] = replace(self.type(func_id), vlen=0)

    def _decode(self, type_id: int, at: int) -> BtfType:
        name_off, info, size_or_type = _TYPE.unpack_from(self._types, at)
        kind, vlen, flag = Kind(info >> 24 & 0x1F), info & 0xFFFF, bool(info >> 31)
        extra, items = self._decode_extra(kind, vlen, flag, at + 12)
        sized = kind in _SIZED
        return BtfType(type_id, kind, self.string(name_off), size_or_type if sized else 0,
                       0 if sized else size_or_type, flag, vlen, extra, items)

    def _decode_extra(self, kind: Kind, vlen: int, flag: bool, at: int) -> tuple[int, tuple[object, ...]]:
        data, string = self._types, self.string
        if kind in (Kind.INT, Kind.VAR, Kind.DECL_TAG):
            return _U32.unpack_from(data, at)[0], ()
        if kind is Kind.ARRAY:
            return 0, _THREE.unpack_from(data, at)
        if kind in (Kind.STRUCT, Kind.UNION):
            members = []
            for i in range(vlen):
                name, type_id, offset = _THREE.unpack_from(data, at + 12 * i)
                if flag:
                    members.append(Member(string(name), type_id, offset & 0xFFFFFF, offset >> 24))
                else:
                    members.append(Member(string(name), type_id, *self._old_bitfield(type_id, offset)))
            return 0, tuple(members)
        if kind is Kind.ENUM:
            out = []
            for i in range(vlen):
                name, value = _ENUMERATOR.unpack_from(data, at + 8 * i)
                out.append((string(name), value if flag else value & 0xFFFFFFFF))
            return 0, tuple(out)
        if kind is Kind.ENUM64:
            wide = []
            for i in range(vlen):
                name, low, high = _THREE.unpack_from(data, at + 12 * i)
                value = low | high << 32
                wide.append((string(name), value - (1 << 64) if flag and value >> 63 else value))
            return 0, tuple(wide)
        if kind is Kind.FUNC_PROTO:
            pairs = (_TWO.unpack_from(data, at + 8 * i) for i in range(vlen))
            return 0, tuple((string(name), type_id) for name, type_id in pairs)
        if kind is Kind.DATASEC:
            return 0, tuple(_THREE.unpack_from(data, at + 12 * i) for i in range(vlen))
        return 0, ()

    def _old_bitfield(self, type_id: int, offset: int) -> tuple[int, int, bool]:
        """(bit offset, bits of the bitfield or 0, by its type) of a member where kind_flag is 0.

        A bitfield then is an INT that has fewer bits than its bytes hold (btf_type_int_is_regular()) or that does
        not begin on a byte; BTF_INT_OFFSET() counts on top of the member's offset. Looks at raw words: a damaged
        struct may have itself for a member.
        """
        for _ in range(MAX_RESOLVE_DEPTH):
            if not 0 < type_id < self.type_count:
                break
            owner = self if type_id >= self._first or self.base is None else self.base
            at = owner._offsets[type_id - owner._first]
            _, info, size_or_type = _TYPE.unpack_from(owner._types, at)
            kind = info >> 24 & 0x1F
            if kind == Kind.INT:
                word = _U32.unpack_from(owner._types, at + 12)[0]
                inner, bits = word >> 16 & 0xFF, word & 0xFF
                if inner or offset % 8 or bits != size_or_type * 8:
                    return offset + inner, bits, True
                break
            if kind not in MODIFIERS:
                break
            type_id = size_or_type
        return offset, 0, False

    # -- looking things up -------------------------------------------------------------------------------------------

    def _names(self) -> dict[int, list[int]]:
        if self._by_name is None:
            index: dict[int, list[int]] = {}
            self._by_name = index
            types, name_at = self._types, _U32.unpack_from
            for i, at in enumerate(self._offsets):
                index.setdefault(name_at(types, at)[0], []).append(self._first + i)
        return self._by_name

    def _offsets_of(self, wanted: bytes) -> Iterator[int]:
        """String offsets at which the bytes `wanted` stand; a name may be the end of another one."""
        if self.base is not None:
            yield from self.base._offsets_of(wanted)
        at = self._strings.find(wanted)
        while at >= 0:
            yield self._first_string + at
            at = self._strings.find(wanted, at + 1)

    def find_all(self, name: str, *kinds: Kind) -> list[BtfType]:
        """Every type called `name`, of `kinds` if given, in order of id."""
        out = self.base.find_all(name, *kinds) if self.base is not None else []
        names = self._names()
        ids = [i for offset in self._offsets_of(name.encode() + b"\0") for i in names.get(offset, ())]
        found = (self.type(i) for i in sorted(ids))
        return out + [t for t in found if t.name == name and (not kinds or t.kind in kinds)]

    def find_prefixed(self, prefix: str, *kinds: Kind) -> list[BtfType]:
        """Every type whose name begins with `prefix`, of `kinds` if given, in order of id."""
        out = self.base.find_prefixed(prefix, *kinds) if self.base is not None else []
        names = self._names()
        ids = [i for offset in self._offsets_of(prefix.encode()) for i in names.get(offset, ())]
        found = (self.type(i) for i in sorted(ids))
        return out + [t for t in found if not kinds or t.kind in kinds]

    def find(self, name: str, *kinds: Kind) -> BtfType | None:
        """btf_find_by_name_kind(): the first of find_all()."""
        found = self.find_all(name, *kinds)
        return found[0] if found else None

    def types(self) -> Iterator[BtfType]:
        """All types in order of id, the base's not included."""
        return (self.type(i) for i in range(self._first, self.type_count))

    def resolve(self, type_id: int) -> BtfType:
        """The type behind typedefs, const, volatile, restrict and type tags; ObjectFileError for a loop of them."""
        for _ in range(MAX_RESOLVE_DEPTH):
            found = self.type(type_id)
            if found.kind not in MODIFIERS:
                return found
            type_id = found.type_id
        raise self._bad(f"type [{type_id}]: a chain of more than {MAX_RESOLVE_DEPTH} modifiers")

    def sizeof(self, type_id: int) -> int:
        """Bytes of a type; 0 for void and functions."""
        count = 1
        for _ in range(MAX_RESOLVE_DEPTH):
            found = self.resolve(type_id)
            if found.kind is Kind.ARRAY:
                type_id, _, nelems = found.array
                count *= nelems
                continue
            return count * (8 if found.kind is Kind.PTR else found.size)
        raise self._bad(f"type [{type_id}]: arrays nested more than {MAX_RESOLVE_DEPTH} deep")

    def find_member(self, struct: BtfType, name: str) -> Member | None:
        """The member called `name`, looking into anonymous structs and unions; its offset is from `struct`."""
        return self._find_member(struct, name, set(), 0)

    def _find_member(self, struct: BtfType, name: str, seen: set[int], depth: int) -> Member | None:
        """`seen` has the types that do not lead to `name`: damaged BTF may nest a type in itself or fan out."""
        if depth > MAX_RESOLVE_DEPTH:
            raise self._bad(f"type [{struct.id}]: anonymous structs nested more than {MAX_RESOLVE_DEPTH} deep")
        seen.add(struct.id)
        for member in struct.members:
            if member.name == name:
                return member
            inner = self.resolve(member.type_id) if not member.name else None
            if inner is None or inner.kind not in (Kind.STRUCT, Kind.UNION) or inner.id in seen:
                continue
            found = self._find_member(inner, name, seen, depth + 1)
            if found is not None:
                return replace(found, bit_offset=member.bit_offset + found.bit_offset)
        return None
