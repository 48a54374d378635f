"""Guest physical memory: one lazily backed mapping that the vCPUs and the kernel model share.

Mirrors no Linux file: this is the RAM itself. The page allocator over it is mm/page_alloc.py, kernel virtual
addresses are mm/access.py. Leaves out: holes in RAM, NUMA nodes, device memory.

Reads and writes of 64-bit words dominate (page-table walks, kcalls), so aligned words go through memoryview casts
instead of struct. The host must be little-endian, as both guests are.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import numpy.typing as npt

from kernel_model.errors import KemuError

PAGE_SIZE = 4096


class PhysicalAddressError(KemuError):
    """An access outside the guest's RAM."""


class GuestMemory:
    """`size` bytes of RAM whose first byte has guest physical address `base`; both multiples of the page size.

    All addresses are guest physical, unsigned, in bytes. Every accessor raises PhysicalAddressError when any byte
    lies outside [base, base + size).
    """

    __slots__ = ("_map", "_u16", "_u32", "_u64", "_u8", "base", "end", "host_address", "size")

    def __init__(self, size: int = 256 << 20, base: int = 0) -> None:
        if size <= 0 or size % PAGE_SIZE or base % PAGE_SIZE:
            raise PhysicalAddressError(f"guest RAM of {size:#x} bytes at {base:#x}: not a multiple of the page size")
        if sys.byteorder != "little":
            raise PhysicalAddressError("guest RAM needs a little-endian host")
        self.base = base
        self.size = size
        self.end = base + size
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._u8 = memoryview(self._map)
        self._u16 = self._u8.cast("H")
        self._u32 = self._u8.cast("I")
        self._u64 = self._u8.cast("Q")
        self.host_address: int = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def contains(self, pa: int, length: int = 1) -> bool:
        """True where all of [pa, pa + length) is RAM."""
        return self.base <= pa and pa + length <= self.end

    def _offset(self, pa: int, length: int, what: str) -> int:
        if length < 0 or pa < self.base or pa + length > self.end:
            raise PhysicalAddressError(
                f"{what} of {length} bytes at physical {pa:#x}: RAM is [{self.base:#x}, {self.end:#x})"
            )
        return pa - self.base

    def read(self, pa: int, length: int) -> bytes:
        """`length` bytes at `pa`."""
        offset = self._offset(pa, length, "read")
        return bytes(self._u8[offset : offset + length])

    def read_cstr(self, pa: int, limit: int) -> tuple[bytes, bool]:
        """(bytes at `pa` up to the first NUL, True), or (`limit` bytes, False) where they hold none."""
        offset = self._offset(pa, limit, "read")
        nul = self._map.find(b"\0", offset, offset + limit)
        return (self._map[offset:nul], True) if nul >= 0 else (self._map[offset : offset + limit], False)

    def write(self, pa: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `pa`."""
        offset = self._offset(pa, len(data), "write")
        self._u8[offset : offset + len(data)] = data

    def fill(self, pa: int, length: int, byte: int = 0) -> None:
        """Set [pa, pa + length) to `byte`."""
        offset = self._offset(pa, length, "fill")
        ctypes.memset(self.host_address + offset, byte, length)

    def view(self, pa: int, length: int) -> memoryview:
        """Writable window on [pa, pa + length): no copy, follows later writes."""
        offset = self._offset(pa, length, "view")
        return self._u8[offset : offset + length]

    def array(self, pa: int, count: int, dtype: str = "<u8") -> npt.NDArray[np.generic]:
        """`count` items of `dtype` at `pa`: a writable numpy array over the RAM itself (512 entries of a table)."""
        kind = np.dtype(dtype)
        offset = self._offset(pa, count * kind.itemsize, "array")
        return np.frombuffer(self._u8, dtype=kind, count=count, offset=offset)

    def read_u8(self, pa: int) -> int:
        """Byte at `pa`."""
        return self._u8[self._offset(pa, 1, "read")]

    def read_u16(self, pa: int) -> int:
        """16-bit word at `pa`, any alignment."""
        offset = self._offset(pa, 2, "read")
        return int.from_bytes(self._u8[offset : offset + 2], "little") if offset & 1 else self._u16[offset >> 1]

    def read_u32(self, pa: int) -> int:
        """32-bit word at `pa`, any alignment."""
        offset = self._offset(pa, 4, "read")
        return int.from_bytes(self._u8[offset : offset + 4], "little") if offset & 3 else self._u32[offset >> 2]

    def read_u64(self, pa: int) -> int:
        """64-bit word at `pa`, any alignment."""
        offset = pa - self.base
        if offset & 7 == 0 and 0 <= offset < self.size:
            return self._u64[offset >> 3]
        offset = self._offset(pa, 8, "read")
        return int.from_bytes(self._u8[offset : offset + 8], "little")

    def write_u8(self, pa: int, value: int) -> None:
        """Store the low 8 bits of `value`."""
        self._u8[self._offset(pa, 1, "write")] = value & 0xFF

    def write_u16(self, pa: int, value: int) -> None:
        """Store the low 16 bits of `value`."""
        self.write(pa, (value & 0xFFFF).to_bytes(2, "little"))

    def write_u32(self, pa: int, value: int) -> None:
        """Store the low 32 bits of `value`."""
        offset = self._offset(pa, 4, "write")
        if offset & 3:
            self._u8[offset : offset + 4] = (value & 0xFFFF_FFFF).to_bytes(4, "little")
        else:
            self._u32[offset >> 2] = value & 0xFFFF_FFFF

    def write_u64(self, pa: int, value: int) -> None:
        """Store the low 64 bits of `value`."""
        offset = pa - self.base
        if offset & 7 == 0 and 0 <= offset < self.size:
            self._u64[offset >> 3] = value & 0xFFFF_FFFF_FFFF_FFFF
            return
        self.write(pa, (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little"))
