"""Global variables of an arena, put where they belong before any program runs.

Mirrors bpf_object__create_maps() of tools/lib/bpf/libbpf.c: the loader's process maps the arena and copies them in, and
each page is faulted in through arena_vm_fault(). The process is made for that and goes again; the pages stay.
"""

from __future__ import annotations

from kernel_model.bpf.arena import ArenaMap
from kernel_model.errors import KemuError
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.mmap import MAP_FIXED, MAP_SHARED, do_mmap
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmStruct

_PROT_READ_WRITE = 3


def populate_arena(arena: ArenaMap, faults: FaultHandler) -> None:
    """Copy the arena's initial contents, if it has any, through a mapping of user space.

    Raises KemuError where the arena cannot be mapped, UserAccessError where the copy would end in a signal
    (BPF_F_SEGV_ON_FAULT: libbpf dies of it, too).
    """
    if arena.spec.initial is None:
        return
    mm = MmStruct(arena.host.init_mm, arena.host.objects, "libbpf")
    try:
        where = do_mmap(mm, arena.user_vm_start, arena.size, _PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, arena)
        if where != arena.user_vm_start:
            raise KemuError(f"mmap of arena {arena.name!r}: error {where}")
        UserSpace(mm, faults).write(where + arena.spec.initial_offset, arena.spec.initial)
    finally:
        mm.exit_mmap()
