"""Kernel virtual memory as the model's Python code sees it.

Mirrors no Linux file: where Linux's C just dereferences, Python goes through here. Permissions are not checked, for
this is the kernel's own code (text_poke() as well as plain stores); only an address without a mapping is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

from arch.interface import PAGE_SHIFT, PAGE_SIZE
from kernel_model.errors import KemuError
from kernel_model.mm.init_mm import KERNEL_HALF, InitMm


class GuestAddressError(KemuError):
    """A kernel virtual address that the page tables do not map."""

    def __init__(self, address: int, what: str) -> None:
        super().__init__(f"{what} at kernel address {address:#018x}: not mapped")
        self.address = address


class KernelSpace:
    """Reads and writes at kernel virtual addresses.

    Direct map and kernel image are linear (__phys_addr(), __kimg_to_phys()), everything else is a walk of init_mm.
    """

    __slots__ = ("_base", "_end", "_image", "_memory", "_ram", "_read_pa", "_root", "_start", "_walk")

    def __init__(self, init_mm: InitMm) -> None:
        self._walk = init_mm.pgtable.translate
        self._root = init_mm.pgd
        self._read_pa = init_mm.memory.read_u64
        self._memory = init_mm.memory
        self._image = init_mm.image_pages
        self._start = init_mm.phys_to_virt(init_mm.memory.base)
        self._end = self._start + init_mm.memory.size
        self._base = init_mm.memory.base
        self._ram = init_mm.memory.view(self._base, init_mm.memory.size)

    def translate(self, va: int, what: str = "access") -> int:
        """Physical address of `va`. GuestAddressError where nothing is mapped."""
        if self._start <= va < self._end:
            return va - self._start + self._base
        page = self._image.get(va >> PAGE_SHIFT)
        if page is not None:
            return page + va % PAGE_SIZE
        pa = self._walk(self._read_pa, self._root, va) if va >= KERNEL_HALF else None
        if pa is None:
            raise GuestAddressError(va, what)
        return pa

    def _spans(self, va: int, length: int, what: str) -> Iterator[tuple[int, int, int]]:
        """(offset in the buffer, physical address, bytes) of each page that [va, va + length) touches."""
        done = 0
        while done < length:
            n = min(length - done, PAGE_SIZE - (va + done) % PAGE_SIZE)
            yield done, self.translate(va + done, what), n
            done += n

    def read(self, va: int, length: int) -> bytes:
        """`length` bytes at `va`."""
        offset = va - self._start
        if offset >= 0 and va + length <= self._end and length >= 0:
            return bytes(self._ram[offset : offset + length])
        if va % PAGE_SIZE + length <= PAGE_SIZE and length:
            return self._memory.read(self.translate(va, "read"), length)
        return b"".join(self._memory.read(pa, n) for _, pa, n in self._spans(va, length, "read"))

    def write(self, va: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `va`; nothing is stored where part of the range is not mapped."""
        offset, length = va - self._start, len(data)
        if offset >= 0 and va + length <= self._end:
            self._ram[offset : offset + length] = data
            return
        for done, pa, n in list(self._spans(va, len(data), "write")):
            self._memory.write(pa, data[done : done + n])

    def fill(self, va: int, length: int, byte: int = 0) -> None:
        """memset()."""
        for _, pa, n in list(self._spans(va, length, "write")):
            self._memory.fill(pa, n, byte)

    def read_cstr(self, va: int, limit: int = 4096) -> bytes:
        """Bytes at `va` up to the first NUL, at most `limit`."""
        out = b""
        while len(out) < limit:
            n = min(limit - len(out), PAGE_SIZE - (va + len(out)) % PAGE_SIZE)
            text, ended = self._memory.read_cstr(self.translate(va + len(out), "read"), n)
            out += text
            if ended:
                break
        return out

    def _read(self, va: int, size: int) -> int:
        return int.from_bytes(self.read(va, size), "little")

    def _write(self, va: int, size: int, value: int) -> None:
        self.write(va, (value & ((1 << size * 8) - 1)).to_bytes(size, "little"))

    def read_u8(self, va: int) -> int:
        """Byte at `va`."""
        return self._read(va, 1)

    def read_u16(self, va: int) -> int:
        """16-bit word at `va`, any alignment."""
        return self._read(va, 2)

    def read_u32(self, va: int) -> int:
        """32-bit word at `va`, any alignment."""
        return self._read(va, 4)

    def read_u64(self, va: int) -> int:
        """64-bit word at `va`, any alignment."""
        if va & 7 == 0:
            return self._memory.read_u64(self.translate(va, "read"))
        return self._read(va, 8)

    def write_u8(self, va: int, value: int) -> None:
        """Store the low 8 bits of `value`."""
        self._write(va, 1, value)

    def write_u16(self, va: int, value: int) -> None:
        """Store the low 16 bits of `value`."""
        self._write(va, 2, value)

    def write_u32(self, va: int, value: int) -> None:
        """Store the low 32 bits of `value`."""
        self._write(va, 4, value)

    def write_u64(self, va: int, value: int) -> None:
        """Store the low 64 bits of `value`."""
        if va & 7 == 0:
            self._memory.write_u64(self.translate(va, "write"), value)
        else:
            self._write(va, 8, value)
