"""BPF_MAP_TYPE_HASH: elements in guest memory, found by key.

Mirrors kernel/bpf/hashtab.c. Buckets are left out: the kernel's order of iteration depends on a random seed, here
it is the order of insertion. Freed elements are reused only after an explicit kfree, so a value pointer that a
program holds over a delete still reads its old contents, as with the kernel's delayed reuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kernel_model.bpf.maps.base import E2BIG, EINVAL, ENOENT, Allocator, Map, Space, check_update_flags
from kernel_model.bpf.program import BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, MapSpec
from kernel_model.errors import KernelErrno

_ALLOWED = BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG
HTAB_ELEM_KEY = 48  # offsetof(struct htab_elem, key)


def htab_map_alloc_check(spec: MapSpec) -> None:
    """htab_map_alloc_check(): raises KernelErrno -EINVAL, saying which attribute is off."""
    if spec.max_entries == 0 or spec.key_size == 0 or spec.value_size == 0 or spec.map_flags & ~_ALLOWED:
        raise KernelErrno(
            EINVAL,
            f"map {spec.name!r}: a hash needs a key, a value, entries and known flags (key_size {spec.key_size}, "
            f"value_size {spec.value_size}, max_entries {spec.max_entries}, map_flags 0x{spec.map_flags:x})",
        )


@dataclass(slots=True)
class HashMap(Map):
    """A hash table; elements are struct htab_elem: 48 bytes of links, key rounded up to 8, value."""

    space: Space | None = None
    allocator: Allocator | None = None
    _elements: dict[bytes, int] = field(default_factory=dict)

    def _value(self, element: int) -> int:
        return element + HTAB_ELEM_KEY + ((self.key_size + 7) & ~7)

    def lookup(self, key: bytes) -> int:
        """Address of the value, 0 if the key is absent."""
        element = self._elements.get(key)
        return 0 if element is None else self._value(element)

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0; -EINVAL, -EEXIST, -ENOENT by the flags; -E2BIG for a new key in a full map."""
        assert self.space is not None and self.allocator is not None
        old = self._elements.get(key)
        error = check_update_flags(flags, old is not None)
        if error:
            return error
        if old is None and len(self._elements) >= self.max_entries:
            return -E2BIG
        element = self.allocator.kmalloc(HTAB_ELEM_KEY + ((self.key_size + 7) & ~7) + self.value_size)
        self.space.write(element + HTAB_ELEM_KEY, key)
        self.space.write(self._value(element), value)
        self._elements[key] = element
        if old is not None:
            self.allocator.kfree(old)
        return 0

    def delete(self, key: bytes) -> int:
        """0, or -ENOENT."""
        assert self.allocator is not None
        element = self._elements.pop(key, None)
        if element is None:
            return -ENOENT
        self.allocator.kfree(element)
        return 0

    def keys(self) -> Iterator[bytes]:
        """In order of insertion."""
        return iter(list(self._elements))

    def free(self) -> None:
        """Every element is given back."""
        for key in list(self._elements):
            self.delete(key)
