"""The verifier's questions about types.

Mirrors the btf_*() calls that kernel/bpf/verifier.c makes (kernel/bpf/btf.c), over kernel_model.types.Btf. Ids are the
BTF's own.
"""

from __future__ import annotations

from kernel_model.types import Btf, BtfType, Kind

_SCALARS = (Kind.INT, Kind.ENUM, Kind.ENUM64)


class BtfView:
    """One BTF: the kernel's or the object's. Identity matters: registers compare views by `is`."""

    __slots__ = ("btf", "_tags")

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self._tags: dict[tuple[int, int], list[str]] | None = None

    def type(self, type_id: int) -> BtfType:
        """The type with that id; ObjectFileError for none."""
        return self.btf.type(type_id)

    def name(self, type_id: int) -> str:
        """Its name, empty for types that have none."""
        return self.btf.type(type_id).name

    def resolve(self, type_id: int) -> BtfType:
        """btf_type_skip_modifiers()."""
        return self.btf.resolve(type_id)

    def size(self, type_id: int) -> int:
        """Bytes of the type."""
        return self.btf.sizeof(type_id)

    def find(self, name: str, *kinds: Kind) -> BtfType | None:
        """btf_find_by_name_kind()."""
        return self.btf.find(name, *kinds)

    def func_proto(self, func_id: int) -> BtfType | None:
        """FUNC_PROTO of a FUNC; None where the id is no function."""
        if not 0 < func_id < self.btf.type_count:
            return None
        func = self.btf.type(func_id)
        if func.kind is not Kind.FUNC:
            return None
        proto = self.btf.type(func.type_id)
        return proto if proto.kind is Kind.FUNC_PROTO else None

    def arg_tags(self, func_id: int, arg: int) -> list[str]:
        """Declaration tags of one argument of a FUNC (btf_find_next_decl_tag())."""
        if self._tags is None:
            self._tags = {}
            for kind in self.btf.types():
                if kind.kind is Kind.DECL_TAG:
                    self._tags.setdefault((kind.type_id, kind.extra), []).append(kind.name)
        return self._tags.get((func_id, arg), [])

    def is_scalar(self, type_id: int) -> bool:
        """btf_type_is_scalar(): an integer or enumeration behind its modifiers."""
        return type_id != 0 and self.resolve(type_id).kind in _SCALARS

    def is_void(self, type_id: int) -> bool:
        """void, possibly qualified."""
        return type_id == 0 or self.resolve(type_id).id == 0

    def pointee(self, type_id: int) -> BtfType | None:
        """What a pointer points to, modifiers skipped; None for anything but a pointer."""
        pointer = self.resolve(type_id)
        return self.resolve(pointer.type_id) if pointer.kind is Kind.PTR else None
