"""DWARF of C objects as BTF: types, and functions with their prototypes, merged over all compile units.

Mirrors what pahole does for vmlinux. Named structs, unions, enums and typedefs of one name are one type (the units
share their headers); everything else is merged by shape. Declared functions count too: kernel text implemented
elsewhere is known by its prototype. Leaves out C++, variable locations and unions' tagged members.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from kernel_model.errors import ObjectFileError
from kernel_model.types.btf import Kind, Member
from kernel_model.types.btf_writer import BtfWriter

Die = Any  # elftools.dwarf.die.DIE, which has no type information
Key = tuple[object, ...]

_QUALIFIERS = {
    "DW_TAG_const_type": Kind.CONST,
    "DW_TAG_volatile_type": Kind.VOLATILE,
    "DW_TAG_restrict_type": Kind.RESTRICT,
    "DW_TAG_pointer_type": Kind.PTR,
}
_COMPOSITES = {"DW_TAG_structure_type": Kind.STRUCT, "DW_TAG_union_type": Kind.UNION}
_ATE_BOOLEAN, _ATE_FLOAT, _ATE_SIGNED, _ATE_SIGNED_CHAR = 2, 4, 5, 6
_VOID: Key = ("void",)


def _name(die: Die) -> str:
    attribute = die.attributes.get("DW_AT_name")
    return attribute.value.decode() if attribute is not None else ""


def _value(die: Die, attribute: str, default: int = 0) -> int:
    found = die.attributes.get(attribute)
    return int(found.value) if found is not None else default


@dataclass(slots=True)
class Collector:
    """Types by key; a key of a named type is (kind, name), of others their shape. Bodies are tuples of keys."""

    bodies: dict[Key, tuple[Any, ...]] = field(default_factory=dict)
    functions: dict[str, Key] = field(default_factory=dict)
    protocols: dict[str, Key] = field(default_factory=dict)  # linux/kcall.h pointers: prototypes of undescribed calls

    def unit(self, top: Die) -> None:
        """Take in one compile unit: its functions and global variables and whatever they mention."""
        for die in top.iter_children():
            if die.tag == "DW_TAG_subprogram" and _name(die):
                if "DW_AT_abstract_origin" not in die.attributes:
                    self.functions.setdefault(_name(die), self._proto(die))
            elif die.tag == "DW_TAG_variable" and _name(die).startswith("__kcall_"):
                key = self.key(die)
                while key[0] in (Kind.CONST, Kind.PTR, Kind.VOLATILE):
                    key = key[1]  # type: ignore[assignment]
                self.protocols.setdefault(_name(die).removeprefix("__kcall_"), key)
            elif die.tag in _COMPOSITES or die.tag in ("DW_TAG_typedef", "DW_TAG_enumeration_type"):
                self._of(die)
            elif die.tag == "DW_TAG_variable":
                self.key(die)

    def key(self, die: Die) -> Key:
        """Key of the type that a DIE's DW_AT_type refers to."""
        if "DW_AT_type" not in die.attributes:
            return _VOID
        return self._of(die.get_DIE_from_attribute("DW_AT_type"))

    def _of(self, die: Die) -> Key:
        tag, name = die.tag, _name(die)
        if tag in _QUALIFIERS:
            return self._put((_QUALIFIERS[tag], self.key(die)), ())
        if tag == "DW_TAG_typedef":
            key: Key = (Kind.TYPEDEF, name)
            if key not in self.bodies:
                self.bodies[key] = ()  # a struct may refer to its own typedef
                self.bodies[key] = (self.key(die),)
            return key
        if tag == "DW_TAG_base_type":
            return self._put((Kind.INT, name), (_value(die, "DW_AT_byte_size"), _value(die, "DW_AT_encoding")))
        if tag in _COMPOSITES:
            return self._composite(die, _COMPOSITES[tag], name)
        if tag == "DW_TAG_enumeration_type":
            values = tuple((_name(c), _value(c, "DW_AT_const_value")) for c in die.iter_children())
            return self._put((Kind.ENUM, name or values), (_value(die, "DW_AT_byte_size"), name, values))
        if tag == "DW_TAG_array_type":
            return self._array(die)
        if tag == "DW_TAG_subroutine_type":
            return self._proto(die)
        raise ObjectFileError(f"DWARF: {tag} at offset {die.offset:#x} is not understood")

    def _put(self, key: Key, body: tuple[Any, ...]) -> Key:
        self.bodies.setdefault(key, body)
        return key

    def _proto(self, die: Die) -> Key:
        params = []
        for child in die.iter_children():
            if child.tag == "DW_TAG_formal_parameter":
                params.append((_name(child), self.key(child)))
            elif child.tag == "DW_TAG_unspecified_parameters":
                params.append(("", _VOID))
        return self._put((Kind.FUNC_PROTO, self.key(die), tuple(params)), ())

    def _array(self, die: Die) -> Key:
        key: Key = self.key(die)
        counts: list[int] = []
        for child in die.iter_children():
            if child.tag == "DW_TAG_subrange_type":
                count = _value(child, "DW_AT_count", -1)
                counts.append(_value(child, "DW_AT_upper_bound", -1) + 1 if count < 0 else count)
        for count in reversed(counts):
            key = self._put((Kind.ARRAY, key, count), ())
        return key

    def _composite(self, die: Die, kind: Kind, name: str) -> Key:
        if "DW_AT_declaration" in die.attributes:
            return self._put((kind, name), ()) if (kind, name) not in self.bodies else (kind, name)
        named: Key = (kind, name)
        if name and self.bodies.get(named):
            return named
        if name:
            self.bodies[named] = ("in progress",)
        members = tuple(self._member(child) for child in die.iter_children() if child.tag == "DW_TAG_member")
        key: Key = named if name else (kind, "", members)
        self.bodies[key] = (_value(die, "DW_AT_byte_size"), members)
        return key

    def _member(self, die: Die) -> tuple[str, Key, int, int]:
        bits = _value(die, "DW_AT_bit_size")
        offset = _value(die, "DW_AT_data_bit_offset", 8 * _value(die, "DW_AT_data_member_location"))
        return _name(die), self.key(die), offset, bits


@dataclass(slots=True)
class _Encoder:
    """Numbers the keys in the order in which the functions and structs mention them, then writes them."""

    collected: Collector
    order: list[Key] = field(default_factory=list)
    ids: dict[Key, int] = field(default_factory=lambda: {_VOID: 0})

    def number(self, key: Key) -> None:
        pending = [key]
        while pending:
            current = pending.pop()
            if current in self.ids:
                continue
            self.order.append(current)
            self.ids[current] = len(self.order)
            pending.extend(reversed(list(self._mentions(current))))

    def _mentions(self, key: Key) -> Iterable[Key]:
        kind, body = key[0], self.collected.bodies[key]
        if kind is Kind.FUNC_PROTO:
            yield key[1]  # type: ignore[misc]
            yield from (k for _, k in key[2])  # type: ignore[attr-defined]
        elif kind is Kind.TYPEDEF:
            yield body[0]
        elif kind in (Kind.STRUCT, Kind.UNION):
            yield from (member[1] for member in body[1]) if body else ()
        elif kind is Kind.ARRAY:
            yield key[1]  # type: ignore[misc]
            yield (Kind.INT, "unsigned int")
        elif kind in (Kind.PTR, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT):
            yield key[1]  # type: ignore[misc]

    def write(self, writer: BtfWriter, key: Key) -> None:
        kind, body, ids = key[0], self.collected.bodies[key], self.ids
        if kind is Kind.INT:
            size, encoding = body
            if encoding == _ATE_FLOAT:
                writer.float_(str(key[1]), size)
            else:
                writer.int_(str(key[1]), size, signed=encoding in (_ATE_SIGNED, _ATE_SIGNED_CHAR),
                            boolean=encoding == _ATE_BOOLEAN)
        elif kind in (Kind.STRUCT, Kind.UNION) and body:
            members = [Member(n, ids[k], o, b) for n, k, o, b in body[1]]
            writer.composite(Kind.STRUCT if kind is Kind.STRUCT else Kind.UNION, str(key[1]), body[0], members)
        elif kind in (Kind.STRUCT, Kind.UNION):
            writer.fwd(str(key[1]), union=kind is Kind.UNION)
        elif kind is Kind.ENUM:
            writer.enum(body[1], body[0], list(body[2]))
        elif kind is Kind.ARRAY:
            writer.array(ids[key[1]], ids[(Kind.INT, "unsigned int")], int(key[2]))  # type: ignore[index,call-overload]
        elif kind is Kind.FUNC_PROTO:
            writer.func_proto(ids[key[1]], [(n, ids[k]) for n, k in key[2]])  # type: ignore[index,attr-defined]
        elif kind is Kind.TYPEDEF:
            writer.ref(Kind.TYPEDEF, ids[body[0]], str(key[1]))
        else:
            writer.ref(Kind(kind), ids[key[1]])  # type: ignore[index,arg-type]


def collect(objects: Iterable[Path]) -> Collector:
    """Types and functions of ELF objects. ObjectFileError for one without DWARF that is no assembly."""
    collector = Collector()
    for path in objects:
        with path.open("rb") as stream:
            try:
                elf = ELFFile(stream)
                if elf.has_dwarf_info():
                    for unit in elf.get_dwarf_info().iter_CUs():
                        collector.unit(unit.get_top_DIE())
            except (ELFError, DWARFError) as error:
                raise ObjectFileError(f"{path}: DWARF: {error or 'truncated'}") from error
    return collector


def encode(collector: Collector, tags: dict[str, tuple[str, ...]] | None = None) -> bytes:
    """BTF of everything collected: types first, then one FUNC a function by name, with `tags` as decl tags."""
    encoder = _Encoder(collector)
    collector.bodies.setdefault((Kind.INT, "unsigned int"), (4, 7))
    functions = {**collector.protocols, **collector.functions}
    for name in sorted(functions):
        encoder.number(functions[name])
    for named in sorted((k for k in collector.bodies if len(k) == 2 and isinstance(k[1], str)), key=repr):
        encoder.number(named)
    writer = BtfWriter()
    for key in encoder.order:
        encoder.write(writer, key)
    for name in sorted(functions):
        func = writer.ref(Kind.FUNC, encoder.ids[functions[name]], name, linkage=1)
        for tag in (tags or {}).get(name, ()):
            writer.decl_tag(tag, func)
    return writer.encode()
