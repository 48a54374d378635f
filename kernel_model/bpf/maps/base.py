"""What every map is: its attributes, its struct bpf_map in guest memory and the operations programs call.

Mirrors kernel/bpf/syscall.c (map_create, map_check_btf's place), include/linux/bpf.h (struct bpf_map_ops) and the
map helpers of kernel/bpf/helpers.c. Failures are returned as -errno where a program sees them and raised as
KernelErrno where a person creates a map. Leaves out memory accounting, freezing and pinning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from kernel_model.bpf.program import MapSpec, MapType
from kernel_model.errors import KernelErrno, NotModelledError
from kernel_model.kcall import kcall

BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK = 0, 1, 2, 4
EINVAL, E2BIG, EEXIST, ENOENT, EOPNOTSUPP, EBUSY, ERANGE, ENOMEM = 22, 7, 17, 2, 95, 16, 34, 12


class Space(Protocol):
    """Kernel virtual memory."""

    def read(self, va: int, length: int) -> bytes:
        """`length` bytes at `va`."""
        ...

    def write(self, va: int, data: bytes) -> None:
        """Store `data` at `va`."""
        ...


class Allocator(Protocol):
    """kmalloc() and kfree(): zeroed memory of the direct map."""

    def kmalloc(self, size: int) -> int:
        """Address of `size` zeroed bytes."""
        ...

    def kfree(self, va: int) -> None:
        """Give it back."""
        ...


class StructBpfMap(Protocol):
    """The fields of struct bpf_map that guest text reads."""

    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    map_extra: int
    id: int


@dataclass(slots=True)
class Map(ABC):
    """One map. `address` is that of its struct bpf_map; sizes are bytes."""

    spec: MapSpec
    id: int
    address: int = 0
    user_vm_start: int = 0

    @property
    def name(self) -> str:
        """The map's name, at most 15 characters as the kernel keeps it."""
        return self.spec.name[:15]

    @property
    def type(self) -> int:
        """enum bpf_map_type."""
        return self.spec.type

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self.spec.key_size

    @property
    def value_size(self) -> int:
        """Bytes of a value."""
        return self.spec.value_size

    @property
    def max_entries(self) -> int:
        """Most elements it may hold."""
        return self.spec.max_entries

    @property
    def map_flags(self) -> int:
        """BPF_F_* flags of its creation."""
        return self.spec.map_flags

    def write_struct(self, view: StructBpfMap) -> None:
        """bpf_map_init_from_attr(): fill in the struct in guest memory."""
        view.map_type = self.spec.type
        view.key_size = self.spec.key_size
        view.value_size = self.spec.value_size
        view.max_entries = self.spec.max_entries
        view.map_flags = self.spec.map_flags
        view.map_extra = self.spec.map_extra
        view.id = self.id

    @abstractmethod
    def lookup(self, key: bytes) -> int:
        """map_lookup_elem: address of the value, 0 if there is none."""

    @abstractmethod
    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """map_update_elem: 0 or -errno."""

    @abstractmethod
    def delete(self, key: bytes) -> int:
        """map_delete_elem: 0 or -errno."""

    @abstractmethod
    def keys(self) -> Iterator[bytes]:
        """Every key, in map_get_next_key's order."""

    def direct_value_addr(self, offset: int) -> int:
        """map_direct_value_addr: what a BPF_PSEUDO_MAP_VALUE load becomes. Raises KernelErrno where it has none."""
        raise KernelErrno(EINVAL, f"map {self.name!r} has no direct value access")

    @abstractmethod
    def free(self) -> None:
        """map_free: give all memory back."""


def check_update_flags(flags: int, exists: bool) -> int:
    """The flag rules that hash and array share: 0, -EINVAL, -EEXIST or -ENOENT."""
    if flags & ~BPF_F_LOCK > BPF_EXIST:
        return -EINVAL
    if exists and flags & ~BPF_F_LOCK == BPF_NOEXIST:
        return -EEXIST
    if not exists and flags & ~BPF_F_LOCK == BPF_EXIST:
        return -ENOENT
    return 0


@dataclass(slots=True)
class Maps:
    """All maps of a kernel, by the address of their struct; and the helpers that reach them."""

    space: Space
    _by_address: dict[int, Map] = field(default_factory=dict)

    def add(self, new: Map) -> None:
        """Make a map known under its address."""
        self._by_address[new.address] = new

    def remove(self, old: Map) -> None:
        """Forget a map (it has been freed)."""
        del self._by_address[old.address]

    def at(self, address: int) -> Map:
        """The map at `address`; NotModelledError if no struct bpf_map lies there (a bug of ours, not a guest's)."""
        try:
            return self._by_address[address]
        except KeyError:
            raise NotModelledError(f"no map at 0x{address:x}") from None

    def __iter__(self) -> Iterator[Map]:
        return iter(sorted(self._by_address.values(), key=lambda m: m.id))

    @kcall
    def bpf_map_lookup_elem(self, map: int, key: int) -> int:
        """Helper 1: address of the value or 0."""
        found = self.at(map)
        return found.lookup(self.space.read(key, found.key_size))

    @kcall
    def bpf_map_update_elem(self, map: int, key: int, value: int, flags: int) -> int:
        """Helper 2: 0 or -errno."""
        found = self.at(map)
        read = self.space.read
        return found.update(read(key, found.key_size), read(value, found.value_size), flags)

    @kcall
    def bpf_map_delete_elem(self, map: int, key: int) -> int:
        """Helper 3: 0 or -errno."""
        found = self.at(map)
        return found.delete(self.space.read(key, found.key_size))


def unsupported(spec: MapSpec) -> NotModelledError:
    """The error for a map type that kemu does not have."""
    name = MapType(spec.type).name if spec.type in MapType._value2member_map_ else str(spec.type)
    return NotModelledError(f"map {spec.name!r}: map type {name} is not modelled (docs/limitations.md)")
