"""BPF_MAP_TYPE_ARRAY: values side by side in guest memory, all present from the start.

Mirrors kernel/bpf/arraymap.c. Global data sections are arrays of one element. Leaves out per-CPU arrays and the
inner-map flag.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kernel_model.bpf.maps.base import (
    BPF_F_LOCK,
    BPF_NOEXIST,
    E2BIG,
    EEXIST,
    EINVAL,
    Map,
    Space,
    check_update_flags,
)
from kernel_model.bpf.program import BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, MapSpec
from kernel_model.errors import KernelErrno

_ALLOWED = BPF_F_MMAPABLE | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG
_KEY = struct.Struct("<I")
_INT_MAX = 0x7FFF_FFFF


def array_map_alloc_check(spec: MapSpec) -> None:
    """array_map_alloc_check(): raises KernelErrno -EINVAL or -E2BIG, saying which attribute is off."""
    if spec.max_entries == 0 or spec.key_size != 4 or spec.value_size == 0 or spec.map_flags & ~_ALLOWED:
        raise KernelErrno(
            EINVAL,
            f"map {spec.name!r}: an array needs a 4-byte key, a value, entries and known flags (key_size "
            f"{spec.key_size}, value_size {spec.value_size}, max_entries {spec.max_entries}, "
            f"map_flags 0x{spec.map_flags:x})",
        )
    if spec.value_size > _INT_MAX:
        raise KernelErrno(E2BIG, f"map {spec.name!r}: value_size {spec.value_size} is too large")


def elem_size(spec: MapSpec) -> int:
    """Distance of two values: value_size rounded up to 8."""
    return (spec.value_size + 7) & ~7


def index_mask(max_entries: int) -> int:
    """array->index_mask: the next power of two less one, against speculation past the end."""
    return (1 << (max_entries - 1).bit_length()) - 1


@dataclass(slots=True)
class ArrayMap(Map):
    """An array whose values lie at guest address `values`."""

    space: Space | None = None
    values: int = 0

    def _slot(self, key: bytes) -> int | None:
        index = int(_KEY.unpack(key)[0])
        return None if index >= self.max_entries else self.values + index * elem_size(self.spec)

    def lookup(self, key: bytes) -> int:
        """Address of the value, 0 past the end."""
        return self._slot(key) or 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0; -EINVAL for unknown flags, -E2BIG past the end, -EEXIST with BPF_NOEXIST (every element exists)."""
        if check_update_flags(flags, exists=True) == -EINVAL:
            return -EINVAL
        slot = self._slot(key)
        if slot is None:
            return -E2BIG
        if flags & ~BPF_F_LOCK == BPF_NOEXIST:
            return -EEXIST
        assert self.space is not None
        self.space.write(slot, value)
        return 0

    def delete(self, key: bytes) -> int:
        """-EINVAL: elements of an array cannot be deleted."""
        return -EINVAL

    def keys(self) -> Iterator[bytes]:
        """0, 1, 2, ..."""
        return (_KEY.pack(index) for index in range(self.max_entries))

    def direct_value_addr(self, offset: int) -> int:
        """array_map_direct_value_addr(): one element only, `offset` inside it; KernelErrno otherwise."""
        if self.max_entries != 1:
            raise KernelErrno(EINVAL, f"map {self.name!r}: direct value access needs max_entries 1")
        if offset >= self.value_size:
            raise KernelErrno(EINVAL, f"map {self.name!r}: offset {offset} is outside the value")
        return self.values + offset

    def direct_read(self, offset: int, size: int) -> bytes | None:
        """Contents of a frozen read-only map, which the verifier takes for constants; None where it is not frozen."""
        if not self.spec.readonly or self.spec.initial is None:
            return None
        return self.spec.initial[offset : offset + size] if offset + size <= len(self.spec.initial) else None

    def free(self) -> None:
        """The values share the allocation of the struct: whoever made it frees it."""
