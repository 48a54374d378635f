"""Typed views of structs that live in guest memory: `types.view("bpf_arena", va).user_vm_start`.

Mirrors no Linux file: this is how Python dereferences a pointer. Layout comes from BTF alone; accessors are worked
out once for each struct. Pointers and enums are ints, embedded structs are views, char arrays are bytes-like.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from kernel_model.errors import KemuError
from kernel_model.types.btf import Btf, BtfType, Kind, Member

_STEP = re.compile(r"(?:^|\.)([A-Za-z_]\w*)|\[(\d+)\]")
_COMPOSITE = (Kind.STRUCT, Kind.UNION)
_Get = Callable[["Memory", int], Any]
_Set = Callable[["Memory", int, Any], None]


class Memory(Protocol):
    """Guest virtual memory."""

    def read(self, va: int, length: int) -> bytes:
        """`length` bytes at `va`."""
        ...

    def write(self, va: int, data: bytes) -> None:
        """Store `data` at `va`."""
        ...


class TypeLookupError(KemuError, AttributeError):
    """A struct or field that the kernel's BTF does not have; the text names close matches."""


@dataclass(frozen=True, slots=True)
class _Field:
    offset: int
    get: _Get
    set: _Set | None


class Types:
    """The types of one kernel, over its memory."""

    def __init__(self, btf: Btf, memory: Memory) -> None:
        self.btf = btf
        self.memory = memory
        self._structs: dict[str, BtfType] = {}
        self._fields: dict[int, dict[str, _Field]] = {}
        self._offsets: dict[tuple[int, str], int] = {}

    def struct(self, name: str) -> BtfType:
        """The struct or union called `name`; TypeLookupError if there is none."""
        found = self._structs.get(name)
        if found is None:
            found = self.btf.find(name, Kind.STRUCT, Kind.UNION)
            if found is None:
                raise TypeLookupError(f"{self.btf.name}: no struct {name}")
            self._structs[name] = found
        return found

    def sizeof(self, name: str) -> int:
        """sizeof(struct name) in bytes."""
        return self.struct(name).size

    def offsetof(self, name: str, path: str) -> int:
        """offsetof(struct name, path) in bytes; `path` as in C: `a.b[2].c`."""
        return self.offset_in(self.struct(name), path)

    def offset_in(self, struct: BtfType, path: str) -> int:
        """As offsetof(), for a struct that may have no name; TypeLookupError for a path that leads nowhere."""
        offset = self._offsets.get((struct.id, path))
        if offset is None:
            offset = self._offsets[struct.id, path] = self._walk(struct, path)
        return offset

    def _walk(self, struct: BtfType, path: str) -> int:
        offset, at, type_id = 0, 0, struct.id
        while at < len(path):
            step = _STEP.match(path, at)
            current = self.btf.resolve(type_id)
            if step is None or step[2] and current.kind is not Kind.ARRAY:
                raise TypeLookupError(f"struct {struct.name or '(anonymous)'}: {path!r} is no path of fields")
            if step[1]:
                member = self._member(current, step[1])
                offset, type_id = offset + member.bit_offset // 8, member.type_id
            else:
                type_id, _, _ = current.array
                offset += int(step[2]) * self.btf.sizeof(type_id)
            at = step.end()
        return offset

    def view(self, name: str, va: int) -> View:
        """The `struct name` at `va`."""
        return View(self, self.struct(name), va)

    def _member(self, struct: BtfType, name: str) -> Member:
        member = self.btf.find_member(struct, name) if struct.kind in _COMPOSITE else None
        if member is None:
            near = difflib.get_close_matches(name, [m.name for m in struct.members if m.name], 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise TypeLookupError(f"struct {struct.name or '(anonymous)'} has no field {name}{hint}")
        return member

    def fields(self, struct: BtfType) -> dict[str, _Field]:
        """Accessors of the fields that were used so far."""
        return self._fields.setdefault(struct.id, {})

    def field(self, struct: BtfType, name: str) -> _Field:
        """Accessors of one field, made on first use."""
        fields = self.fields(struct)
        found = fields.get(name)
        if found is None:
            found = fields[name] = self._make(self._member(struct, name))
        return found

    def _make(self, member: Member) -> _Field:
        if member.bitfield_size:
            return self._bitfield(member)
        kind = self.btf.resolve(member.type_id)
        offset = member.bit_offset // 8
        if kind.kind in _COMPOSITE:
            return _Field(offset, lambda memory, va: View(self, kind, va), None)
        if kind.kind is Kind.ARRAY:
            return _Field(offset, lambda memory, va: Array(self, kind, va), self._set_bytes(kind))
        return _Field(offset, *_scalar(kind, self.btf.sizeof(member.type_id)))

    def _set_bytes(self, array: BtfType) -> _Set:
        size = self.btf.sizeof(array.id)
        element = self.btf.sizeof(array.array[0])
        scalar = self.btf.resolve(array.array[0]).kind not in (*_COMPOSITE, Kind.ARRAY)

        def put(memory: Memory, va: int, value: Any) -> None:
            if isinstance(value, str):
                data = value.encode()
            elif isinstance(value, (bytes, bytearray, memoryview, Array)):
                data = bytes(value)
            elif scalar:
                data = b"".join((int(v) & (1 << 8 * element) - 1).to_bytes(element, "little") for v in value)
            else:
                raise TypeLookupError("an array of structs or arrays is set by its bytes or by its elements' fields")
            if len(data) > size:
                raise TypeLookupError(f"{len(data)} bytes do not fit into an array of {size}")
            memory.write(va, data.ljust(size, b"\0"))

        return put

    def _bitfield(self, member: Member) -> _Field:
        offset, shift, bits = member.bit_offset // 8, member.bit_offset % 8, member.bitfield_size
        size, mask = (shift + bits + 7) // 8, (1 << bits) - 1
        kind = self.btf.resolve(member.type_id)
        signed = kind.kind is Kind.INT and kind.int_signed

        def get(memory: Memory, va: int) -> int:
            value = int.from_bytes(memory.read(va, size), "little") >> shift & mask
            return value - (mask + 1) if signed and value >> (bits - 1) else value

        def put(memory: Memory, va: int, value: Any) -> None:
            old = int.from_bytes(memory.read(va, size), "little")
            memory.write(va, (old & ~(mask << shift) | (int(value) & mask) << shift).to_bytes(size, "little"))

        return _Field(offset, get, put)


def _scalar(kind: BtfType, size: int) -> tuple[_Get, _Set]:
    """How to load and store a scalar of `size` bytes; `kind` has no modifiers left."""
    if kind.kind is Kind.INT and kind.int_bool:
        return (lambda memory, va: memory.read(va, 1) != b"\0",
                lambda memory, va, value: memory.write(va, b"\1" if value else b"\0"))
    signed = kind.int_signed if kind.kind is Kind.INT else kind.flag and kind.kind in (Kind.ENUM, Kind.ENUM64)
    mask = (1 << 8 * size) - 1
    return (lambda memory, va: int.from_bytes(memory.read(va, size), "little", signed=signed),
            lambda memory, va, value: memory.write(va, (int(value) & mask).to_bytes(size, "little")))


class View:
    """One struct at one address. Fields are attributes; `address` is where it lies."""

    __slots__ = ("_fields", "_struct", "_types", "address")

    _fields: dict[str, _Field]
    _struct: BtfType
    _types: Types
    address: int

    def __init__(self, types: Types, struct: BtfType, address: int) -> None:
        put = object.__setattr__
        put(self, "_types", types)
        put(self, "_struct", struct)
        put(self, "_fields", types.fields(struct))
        put(self, "address", address)

    def __getattr__(self, name: str) -> Any:
        found = self._fields.get(name) or self._types.field(self._struct, name)
        return found.get(self._types.memory, self.address + found.offset)

    def __setattr__(self, name: str, value: Any) -> None:
        found = self._fields.get(name) or self._types.field(self._struct, name)
        if found.set is None:
            raise TypeLookupError(f"struct {self._struct.name}: {name} is a struct, set its fields")
        found.set(self._types.memory, self.address + found.offset, value)

    def field_address(self, path: str) -> int:
        """Address of a field, by a path as in C."""
        return self.address + self._types.offset_in(self._struct, path)

    def __repr__(self) -> str:
        return f"<struct {self._struct.name} at {self.address:#x}>"


class Array:
    """An array in guest memory: index for elements, bytes() for its bytes, string() up to the NUL."""

    __slots__ = ("_array", "_types", "address")

    def __init__(self, types: Types, array: BtfType, address: int) -> None:
        self._types, self._array, self.address = types, array, address

    def __len__(self) -> int:
        return self._array.array[2]

    def _at(self, index: int) -> tuple[int, BtfType, int]:
        element, _, count = self._array.array
        if index < 0 or index >= count > 0:  # a flexible array has count 0 and any number of elements
            raise TypeLookupError(f"index {index} is outside an array of {count}")
        size = self._types.btf.sizeof(element)
        return self.address + index * size, self._types.btf.resolve(element), size

    def __getitem__(self, index: int) -> Any:
        va, kind, size = self._at(index)
        if kind.kind in _COMPOSITE:
            return View(self._types, kind, va)
        if kind.kind is Kind.ARRAY:
            return Array(self._types, kind, va)
        return _scalar(kind, size)[0](self._types.memory, va)

    def __setitem__(self, index: int, value: Any) -> None:
        va, kind, size = self._at(index)
        if kind.kind in (*_COMPOSITE, Kind.ARRAY):
            raise TypeLookupError(f"element {index} is a struct or an array, set what is in it")
        _scalar(kind, size)[1](self._types.memory, va, value)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __bytes__(self) -> bytes:
        return self._types.memory.read(self.address, self._types.btf.sizeof(self._array.id))

    def string(self) -> str:
        """The bytes up to the first NUL as text."""
        return bytes(self).split(b"\0", 1)[0].decode("latin-1")
