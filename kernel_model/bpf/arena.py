"""The arena map: creation, user mappings and their faults, destruction.

Mirrors kernel/bpf/arena.c: arena_map_alloc, arena_get_unmapped_area, arena_map_mmap, arena_vm_fault, arena_map_free.
What touches kernel page tables while programs run (allocation, freeing, scratch pages) is guest text.

        kern_vm->addr     kern_vm_start                                 + 4 GiB        end
        | lower half guard |  window: kern_vm_start + (u32)user address  | upper half guard |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from arch.interface import PAGE_SHIFT, PAGE_SIZE, Prot
from kernel_model.bpf.maps.base import E2BIG, EBUSY, EINVAL, EOPNOTSUPP, ERANGE, Map
from kernel_model.bpf.program import BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_SEGV_ON_FAULT, MapSpec
from kernel_model.errors import KernelErrno
from kernel_model.mm.mm_types import VM_DONTCOPY, VM_DONTEXPAND, VM_SHARED, VmFault, VmFaultInfo
from kernel_model.mm.mmap import mm_get_unmapped_area
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.mm.vma import MmStruct, VmArea
from kernel_model.mm.vmalloc import VM_SPARSE, VM_USERMAP, VmStruct
from kernel_model.profiles import Profile, Scratch

SZ_4G = 1 << 32
GUARD_SZ = 1 << 16
KERN_VM_SZ = SZ_4G + GUARD_SZ
_FLAGS = BPF_F_SEGV_ON_FAULT | BPF_F_MMAPABLE | BPF_F_NO_USER_CONV
_PMD_SIZE = 1 << 21


def arena_map_alloc_check(spec: MapSpec) -> None:
    """The attribute checks of arena_map_alloc(): KernelErrno -EINVAL, -E2BIG or -ERANGE, saying which is off."""
    where = f"arena {spec.name!r}"
    if spec.key_size or spec.value_size or not spec.max_entries:
        raise KernelErrno(EINVAL, f"{where}: key_size and value_size must be 0, max_entries not")
    if not spec.map_flags & BPF_F_MMAPABLE or spec.map_flags & ~_FLAGS:
        raise KernelErrno(EINVAL, f"{where}: map_flags 0x{spec.map_flags:x}: BPF_F_MMAPABLE is needed, others unknown")
    if spec.map_extra % PAGE_SIZE:
        raise KernelErrno(EINVAL, f"{where}: map_extra 0x{spec.map_extra:x} is not page aligned")
    size = spec.max_entries * PAGE_SIZE
    if size > SZ_4G:
        raise KernelErrno(E2BIG, f"{where}: {spec.max_entries} pages are more than 4 GiB")
    if spec.map_extra >> 32 != (spec.map_extra + size - 1) >> 32:
        raise KernelErrno(ERANGE, f"{where}: the user range at 0x{spec.map_extra:x} crosses a 4 GiB boundary")


@dataclass(slots=True)
class ArenaMap(Map):
    """One arena. `host` is the kernel's parts (see kernel_model.bpf.core.Host), `area` its vmalloc window."""

    host: Any = None
    range_trees: Any = None
    area: VmStruct | None = None
    scratch_pfn: int | None = None
    _vm_struct: int = 0
    _users: list[VmArea] = field(default_factory=list)

    @classmethod
    def create(cls, spec: MapSpec, map_id: int, host: Any, range_trees: Any, profile: Profile) -> ArenaMap:
        """arena_map_alloc(). Raises KernelErrno for attributes that the kernel refuses."""
        arena_map_alloc_check(spec)
        area = host.vmalloc.get_vm_area(KERN_VM_SZ, VM_SPARSE | VM_USERMAP, f"arena {spec.name}")
        address = host.objects.new("bpf_arena")
        arena = cls(spec, map_id, address, spec.map_extra, host=host, range_trees=range_trees, area=area)
        view = host.types.view("bpf_arena", address)
        arena.write_struct(view.map)
        view.map.name = arena.name
        arena._vm_struct = host.objects.new("vm_struct", addr=area.addr, size=area.size, flags=area.flags)
        view.kern_vm = arena._vm_struct
        range_trees.range_tree_init(arena.rt)
        range_trees.range_tree_set(arena.rt, 0, spec.max_entries)
        if profile.scratch is not Scratch.NONE:
            arena.scratch_pfn = host.init_mm.pages.alloc_pages(0, f"scratch page of arena {spec.name}", zero=True)
            view.scratch_page = host.init_mm.pages.pfn_to_page(arena.scratch_pfn)
        if profile.arena_prepopulate:
            end = arena.kern_vm_start + SZ_4G + GUARD_SZ // 2
            for va in range(arena.kern_vm_start & -_PMD_SIZE, end, _PMD_SIZE):
                host.init_mm.tree.ensure(va)
        if spec.map_extra:
            arena.set_user_range(spec.map_extra)
        return arena

    @property
    def rt(self) -> int:
        """Address of the struct range_tree."""
        return int(self.host.types.view("bpf_arena", self.address).field_address("rt"))

    @property
    def kern_vm_start(self) -> int:
        """Kernel address of the arena pointer whose low 32 bits are 0."""
        assert self.area is not None
        return self.area.addr + GUARD_SZ // 2

    def set_user_range(self, start: int) -> None:
        """Fix the user address of page 0: by map_extra, or by the first mmap()."""
        self.user_vm_start = start
        view = self.host.types.view("bpf_arena", self.address)
        view.user_vm_start = start
        view.user_vm_end = start + self.size

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return self.max_entries * PAGE_SIZE

    def kernel_address(self, user_address: int) -> int:
        """Where the kernel sees what user space and programs call `user_address`."""
        return self.kern_vm_start + (user_address & 0xFFFFFFFF)

    # -- map operations ----------------------------------------------------------------------------------------------

    def lookup(self, key: bytes) -> int:
        """ERR_PTR(-EINVAL)."""
        return -EINVAL & 0xFFFF_FFFF_FFFF_FFFF

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """-EOPNOTSUPP."""
        return -EOPNOTSUPP

    def delete(self, key: bytes) -> int:
        """-EOPNOTSUPP."""
        return -EOPNOTSUPP

    def keys(self) -> Iterator[bytes]:
        """None: map_get_next_key is -EOPNOTSUPP."""
        return iter(())

    def direct_value_addr(self, offset: int) -> int:
        """arena_map_direct_value_addr(): a user address."""
        if offset > self.size:
            raise KernelErrno(ERANGE, f"arena {self.name!r}: offset {offset} is outside the arena")
        return self.user_vm_start + offset

    def free(self) -> None:
        """arena_map_free(): every page once, the scratch page once, then the window. User mappings must be gone."""
        assert self.area is not None
        if self._users:
            raise KernelErrno(EBUSY, f"arena {self.name!r} is still mapped by a process")
        self.host.machine.call("arena_free_all_pages", self.address)
        if self.scratch_pfn is not None:
            self.host.init_mm.unmap_kernel_range(self.area.addr, self.area.area_size)
            self.host.init_mm.pages.free_pages(self.scratch_pfn)
        self.host.vmalloc.free_vm_area(self.area)
        self.range_trees.range_tree_destroy(self.rt)
        self.host.objects.free(self._vm_struct)
        self.host.objects.free(self.address)

    # -- user mappings: MappableFile and VmOperations -----------------------------------------------------------------

    @property
    def has_map_pages(self) -> bool:
        """No: user faults always take mmap_lock."""
        return False

    @property
    def has_close(self) -> bool:
        """Yes: it counts the mms that map it."""
        return True

    def get_unmapped_area(self, mm: MmStruct, addr: int, length: int, pgoff: int, flags: int) -> int:
        """arena_get_unmapped_area(): address or -errno."""
        if pgoff:
            return -EINVAL
        if length > SZ_4G:
            return -E2BIG
        if self.user_vm_start:
            if length > self.size:
                return -E2BIG
            if length != self.size or addr != self.user_vm_start:
                return -EINVAL
        where = mm_get_unmapped_area(mm, addr, length * 2 if not self.user_vm_start else length, flags)
        if where < 0 or where >> 32 == (where + length - 1) >> 32:
            return where
        return (where + SZ_4G - 1) & -SZ_4G

    def mmap(self, vma: VmArea) -> int:
        """arena_map_mmap(): 0, -EINVAL for a private mapping, -EBUSY for another place than the first one's."""
        if not vma.vm_flags & VM_SHARED:
            return -EINVAL
        if self.user_vm_start and self.user_vm_start != vma.vm_start:
            return -EBUSY
        if vma.vm_end - vma.vm_start != self.size:
            return -EBUSY
        self.set_user_range(vma.vm_start)
        vma.vm_flags |= VM_DONTEXPAND | VM_DONTCOPY
        vma.vm_ops = self
        vma.vm_private_data = self
        self._users.append(vma)
        return 0

    def open(self, vma: VmArea) -> None:
        """A VMA of the arena is never split or copied."""

    def close(self, vma: VmArea) -> None:
        """arena_vm_close()."""
        self._users = [user for user in self._users if user is not vma]

    def may_split(self, vma: VmArea, addr: int) -> int:
        """-EINVAL."""
        return -EINVAL

    def mremap(self, vma: VmArea) -> int:
        """arena_vm_mremap(): -EINVAL."""
        return -EINVAL

    def fault(self, vmf: VmFaultInfo) -> VmFault:
        """arena_vm_fault(): the kernel's page, or a new one; SIGSEGV for a scratched page or by BPF_F_SEGV_ON_FAULT."""
        init_mm = self.host.init_mm
        kaddr = self.kernel_address(vmf.address)
        entry = init_mm.tree.pte(kaddr)
        if entry and init_mm.pgtable.present(entry):
            pfn = init_mm.pgtable.pa(entry) >> PAGE_SHIFT
            if pfn == self.scratch_pfn:
                return VmFault.SIGSEGV
        else:
            if self.map_flags & BPF_F_SEGV_ON_FAULT:
                return VmFault.SIGSEGV
            self.range_trees.range_tree_clear(self.rt, vmf.pgoff, 1)
            try:
                pfn = init_mm.pages.alloc_pages(0, f"arena of map at {self.address:#x}", zero=True)
            except OutOfMemoryError:
                self.range_trees.range_tree_set(self.rt, vmf.pgoff, 1)
                return VmFault.SIGSEGV
            init_mm.map_kernel_range(kaddr, [pfn], Prot.READ | Prot.WRITE)
            view = self.host.types.view("bpf_arena", self.address)
            view.nr_pages = view.nr_pages + 1
        init_mm.pages.get_page(pfn)
        vmf.page = pfn
        return VmFault.NONE

    def zap_pages(self, uaddr: int, page_cnt: int) -> None:
        """zap_pages(): unmap the range from every process."""
        for vma in self._users:
            vma.vm_mm.zap_page_range(uaddr, page_cnt * PAGE_SIZE)
