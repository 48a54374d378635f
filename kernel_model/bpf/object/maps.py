"""Maps of an object file: definitions in .maps by BTF, and global data sections.

Mirrors parse_btf_map_def() and bpf_object__init_internal_map() of tools/lib/bpf/libbpf.c. Leaves out inner maps,
PROG_ARRAY values, pinning (accepted, without effect) and .kconfig.
"""

from __future__ import annotations

from kernel_model.bpf.object.elf import ElfObject, Section
from kernel_model.bpf.program import BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, MapSpec, MapType
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Btf, BtfType, Kind

_NUMBERS = ("type", "max_entries", "map_flags", "numa_node", "key_size", "value_size", "pinning", "map_extra")


def _number(btf: Btf, where: str, field: str, type_id: int) -> int:
    """__uint() is a pointer to an array of that many elements, __ulong() an enum with that value."""
    kind = btf.resolve(type_id)
    if kind.kind in (Kind.ENUM, Kind.ENUM64) and kind.vlen == 1:
        return kind.values[0][1] & 0xFFFF_FFFF_FFFF_FFFF
    if kind.kind is Kind.PTR:
        array = btf.resolve(kind.type_id)
        if array.kind is Kind.ARRAY:
            return array.array[2]
    raise ObjectFileError(f"{where}: attribute '{field}' is not __uint() or __ulong()")


def _defined(btf: Btf, where: str, name: str, struct: BtfType) -> MapSpec:
    spec = MapSpec(name, 0, 0, 0, 0)
    for member in struct.members:
        if member.name in _NUMBERS:
            value = _number(btf, where, member.name, member.type_id)
            if member.name not in ("numa_node", "pinning"):
                setattr(spec, member.name, value)
        elif member.name in ("key", "value"):
            pointer = btf.resolve(member.type_id)
            if pointer.kind is not Kind.PTR:
                raise ObjectFileError(f"{where}: attribute '{member.name}' is not __type()")
            setattr(spec, f"{member.name}_size", btf.sizeof(pointer.type_id))
            setattr(spec, f"btf_{member.name}_type_id", pointer.type_id)
        elif member.name == "values":
            raise NotModelledError(f"{where}: maps that hold maps or programs are not modelled")
        else:
            raise ObjectFileError(f"{where}: unknown attribute '{member.name}'")
    if not spec.type:
        raise ObjectFileError(f"{where}: map type isn't specified")
    if max(spec.key_size, spec.value_size) > 0xFFFFFFFF:
        raise ObjectFileError(f"{where}: a key or value of 4 GiB or more")
    return spec


def defined_maps(elf: ElfObject, btf: Btf | None) -> list[tuple[str, MapSpec]]:
    """(symbol name, definition) of every variable in .maps."""
    if elf.section("maps") is not None:
        raise ObjectFileError(f"{elf.name}: section maps: legacy map definitions aren't supported, use .maps")
    if elf.section(".maps") is None:
        return []
    if btf is None:
        raise ObjectFileError(f"{elf.name}: section .maps needs BTF, and there is none")
    datasec = btf.find(".maps", Kind.DATASEC)
    if datasec is None:
        raise ObjectFileError(f"{elf.name}: .BTF: no DATASEC for section .maps")
    out = []
    for type_id, _, _ in datasec.vars:
        var = btf.type(type_id)
        struct = btf.resolve(var.type_id)
        where = f"{elf.name}: section .maps: map '{var.name}'"
        if struct.kind is not Kind.STRUCT:
            raise ObjectFileError(f"{where}: the definition is no struct")
        out.append((var.name, _defined(btf, where, var.name, struct)))
    section = elf.section(".maps")
    offsets = {s.name: s.value for s in elf.symbols if section is not None and s.section == section.index}
    return sorted(out, key=lambda item: offsets.get(item[0], 0))


def internal_map_name(object_name: str, section: str) -> str:
    """internal_map_name(): up to 8 characters of the object's name and the section's; ".data.x" stands for itself.

    15 characters in all, and only those that the kernel takes.
    """
    name = section if "." in section[1:] else object_name[:8] + section[:7]
    return "".join(c if c.isascii() and c.isalnum() or c in "_." else "_" for c in name[:15])


def _mmapable(btf: Btf, datasec: BtfType) -> bool:
    """map_is_mmapable(): a section of static variables only has nothing that user space could name."""
    return any(btf.type(type_id).extra != 0 for type_id, _, _ in datasec.vars)


def data_map(btf: Btf | None, section: Section, object_name: str) -> MapSpec:
    """The one-element array that holds a global data section."""
    readonly = section.name.startswith(".rodata")
    flags = BPF_F_RDONLY_PROG if readonly else 0
    datasec = btf.find(section.name, Kind.DATASEC) if btf is not None else None
    if btf is not None and datasec is not None and _mmapable(btf, datasec):
        flags |= BPF_F_MMAPABLE
    return MapSpec(
        internal_map_name(object_name, section.name), MapType.ARRAY, 4, len(section.data), 1, flags,
        btf_value_type_id=datasec.id if datasec is not None else 0, initial=section.data, section=section.name,
        readonly=readonly,
    )
