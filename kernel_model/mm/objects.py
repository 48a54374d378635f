"""Kernel objects of mm that guest text reads: where they live, and which fields are kept there.

Mirrors kmem_cache_alloc() of vm_area_cachep and mm_cachep. The fields are written through typed views built from the
image's BTF, so layout is the image's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kernel_model.mm.slab import Slab

_LD_WAIT_SLEEP = 4
_UINT_MAX = (1 << 32) - 1


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

    def __init__(
        self, slab: Slab, types: StructTypes | None = None, symbols: Mapping[str, int] | None = None
    ) -> None:
        self._slab = slab
        self._types = types
        self._symbols = symbols or {}  # of the image: what lockdep knows the locks by

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
        put = self._types.view(struct, va).__setattr__
        for name, value in fields.items():
            put(name, value)

    def init_mmap_lock(self, mm: int) -> None:
        """mmap_init_lock() and mm_init() of the mm_struct at `mm`, which is zeroed: locks free, one user."""
        if self._types is None:
            return
        view = self._types.view("mm_struct", mm)
        view.mm_users.counter = view.mm_count.counter = 1
        head = view.mmap_lock.wait_list
        head.next = head.prev = head.address
        self._lock_class(view.mmap_lock.dep_map, "mmap_lock")
        view.mmap_lock.dep_map.wait_type_inner = _LD_WAIT_SLEEP

    def init_vma_lock(self, vma: int) -> None:
        """vma_lock_init() of the vm_area_struct at `vma`, which is zeroed: not attached."""
        if self._types is None:
            return
        view = self._types.view("vm_area_struct", vma)
        view.vm_lock_seq = _UINT_MAX
        self._lock_class(view.vmlock_dep_map, "vma_lock")

    def init_inode(self, inode: int, fs: str) -> None:
        """inode_init_once() of the inode at `inode`, which is zeroed; each file system has a class of its own."""
        if self._types is None:
            return
        lock = self._types.view("inode", inode).i_rwsem
        lock.wait_list.next = lock.wait_list.prev = lock.wait_list.address
        lock.dep_map.key, lock.dep_map.name = self.symbol(f"{fs}_i_mutex_key"), self.symbol("i_mutex_name")
        lock.dep_map.wait_type_inner = _LD_WAIT_SLEEP

    def init_file(self, file: int) -> None:
        """init_file() of the file at `file`, which is zeroed."""
        if self._types is None:
            return
        lock = self._types.view("file", file).f_pos_lock
        lock.wait_list.next = lock.wait_list.prev = lock.wait_list.address
        self._lock_class(lock.dep_map, "f_pos_lock")
        lock.dep_map.wait_type_inner = _LD_WAIT_SLEEP

    def symbol(self, name: str) -> int:
        """Address of the image's `name`; 0 without an image."""
        return self._symbols.get(name, 0)

    def attach_vma(self, vma: int) -> None:
        """vma_mark_attached() of the vm_area_struct at `vma`."""
        if self._types is not None:
            self._types.view("vm_area_struct", vma).vm_refcnt.counter = 1

    def _lock_class(self, dep_map: Any, name: str) -> None:
        dep_map.key, dep_map.name = self.symbol(f"{name}_key"), self.symbol(f"{name}_name")

    def free(self, va: int) -> None:
        """Free an object."""
        self._slab.kfree(va)
