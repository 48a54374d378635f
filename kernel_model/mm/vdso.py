"""The page that the kernel gives every program: on arm64 signal handlers return through it.

Mirrors arch/arm64/kernel/vdso.c (arch_setup_additional_pages) and vdso/sigreturn.S. Leaves out: [vvar], clocks, and all
of it on x86-64, where a handler must bring its own way back (SA_RESTORER). The page is a private one of each program.
"""

from __future__ import annotations

import struct

from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_PRIVATE, do_mmap
from kernel_model.mm.uaccess import UserSpace

_PROT_READ, _PROT_EXEC = 1, 4
_NOP, _SVC, _MOV_X8 = 0xD503201F, 0xD4000001, 0xD2800008
_NR_RT_SIGRETURN = 139
_SIGTRAMP = 0x10  # offset of __kernel_rt_sigreturn; an unwinder looks at what lies in front of it


def arch_setup_additional_pages(space: UserSpace) -> None:
    """Maps the page into a new program and tells guest text where __kernel_rt_sigreturn is."""
    mm = space.mm
    address = do_mmap(mm, 0, 4096, _PROT_READ | _PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, name="[vdso]")
    code = struct.pack("<6I", *[_NOP] * 4, _MOV_X8 | _NR_RT_SIGRETURN << 5, _SVC)
    space.poke(address, code)
    mm.set_sigtramp(address + _SIGTRAMP)
