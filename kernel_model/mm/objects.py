"""Kernel objects of mm that guest text reads: where they live, and which fields are kept there.

Mirrors kmem_cache_alloc() of vm_area_cachep and mm_cachep. The fields are written through typed views built from the
image's BTF, so layout is the image's business.
"""

from __future__ import annotations

from typing import Any, Protocol

from kernel_model.mm.slab import Slab


class StructTypes(Protocol):
    """What mm asks of the type graph (kernel_model/types)."""

    def view(self, name: str, va: int) -> Any:
        """Object whose attributes are the fields of `struct name` at `va`."""
        ...

    def sizeof(self, name: str) -> int:
        """Bytes of `struct name`."""
        ...


class GuestObjects:
    """Allocates structs in guest memory. Without `types` an object has an address and no readable fields."""

    def __init__(self, slab: Slab, types: StructTypes | None = None) -> None:
        self._slab = slab
        self._types = types

    def new(self, struct: str, **fields: int) -> int:
        """Address of a zeroed `struct` with `fields` set."""
        size = 64 if self._types is None else self._types.sizeof(struct)
        va = self._slab.kzalloc(size, struct)
        self.set(struct, va, **fields)
        return va

    def set(self, struct: str, va: int, **fields: int) -> None:
        """Store `fields` of the `struct` at `va`."""
        if self._types is None:
            return
        view = self._types.view(struct, va)
        for name, value in fields.items():
            setattr(view, name, value)

    def free(self, va: int) -> None:
        """Free an object."""
        self._slab.kfree(va)
