"""The page that the kernel gives every program: on arm64 signal handlers return through it.

Mirrors arch/arm64/kernel/vdso.c (arch_setup_additional_pages), vdso/sigreturn.S, and the special mappings of mm/mmap.c:
all programs map the same page. Leaves out: [vvar], clocks, and all of it on x86-64, where a handler must bring its own
way back (SA_RESTORER).
"""

from __future__ import annotations

import struct

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.mm.init_mm import InitMm
from kernel_model.mm.mm_types import VmFault, VmFaultInfo
from kernel_model.mm.mmap import MAP_PRIVATE, do_mmap, mm_get_unmapped_area
from kernel_model.mm.vma import MmStruct, VmArea

_PROT_READ, _PROT_EXEC = 1, 4
_NOP, _SVC, _MOV_X8 = 0xD503201F, 0xD4000001, 0xD2800008
_NR_RT_SIGRETURN = 139
_SIGTRAMP = 0x10  # offset of __kernel_rt_sigreturn; an unwinder looks at what lies in front of it
_EINVAL = 22


class Vdso:
    """The kernel's copy of the page, and the vm_operations_struct of its mappings."""

    has_map_pages = False
    has_close = False

    def __init__(self, init_mm: InitMm) -> None:
        self._pages = init_mm.pages
        self._pfn = init_mm.pages.alloc_pages(0, "vdso", zero=True)
        code = struct.pack("<6I", *[_NOP] * 4, _MOV_X8 | _NR_RT_SIGRETURN << 5, _SVC)
        init_mm.memory.write(self._pfn << PAGE_SHIFT, code)

    def arch_setup_additional_pages(self, mm: MmStruct) -> None:
        """Maps the page into a new program and tells guest text where __kernel_rt_sigreturn is."""
        address = do_mmap(mm, 0, PAGE_SIZE, _PROT_READ | _PROT_EXEC, MAP_PRIVATE, self, name="[vdso]")
        mm.set_sigtramp(address + _SIGTRAMP)

    def get_unmapped_area(self, mm: MmStruct, addr: int, length: int, pgoff: int, flags: int) -> int:
        """Anywhere."""
        return mm_get_unmapped_area(mm, addr, length, flags)

    def mmap(self, vma: VmArea) -> int:
        """_install_special_mapping()"""
        vma.vm_ops = self
        return 0

    def open(self, vma: VmArea) -> None:
        """Nothing to count."""

    def close(self, vma: VmArea) -> None:
        """Nothing to count."""

    def may_split(self, vma: VmArea, addr: int) -> int:
        """special_mapping_split(): it is one thing."""
        return -_EINVAL

    def fault(self, vmf: VmFaultInfo) -> VmFault:
        """special_mapping_fault()"""
        if vmf.pgoff:
            return VmFault.SIGBUS
        self._pages.get_page(self._pfn)
        vmf.page = self._pfn
        return VmFault.NONE
