"""What both vCPUs share: raw access to one Unicorn engine and its register file.

Every call here goes straight to the C library: the Python binding costs microseconds per register. A uc_context is
a copy of the engine's CPU state at a fixed address, so its fields are read and written as memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from unicorn import Uc
from unicorn.unicorn_const import UC_HOOK_CODE, UC_PROT_ALL
from unicorn.unicorn_py3.unicorn import uclib

from kernel_model.memory import GuestMemory

CONTEXT_HEADER = 40  # offsetof(struct uc_context, data) on LP64


class Engine:
    """One Uc over the machine's RAM, with a scratch context."""

    def __init__(self, arch: int, mode: int, model: int, memory: GuestMemory) -> None:
        self.uc = Uc(arch, mode, model)
        self.uc.mem_map_ptr(memory.base, memory.size, UC_PROT_ALL, memory.host_address)
        self._handle = self.uc._uch
        self._context = self.uc.context_save()
        self._pointer = ctypes.cast(self._context.context, ctypes.c_void_p)
        address = self._pointer.value
        assert address is not None
        self.size = ctypes.c_size_t.from_address(address).value
        self.state = memoryview((ctypes.c_ubyte * self.size).from_address(address + CONTEXT_HEADER)).cast("B")
        self._save = uclib.uc_context_save
        self._restore = uclib.uc_context_restore

    def load(self) -> memoryview:
        """Copy the CPU state into `state` and return it."""
        self._save(self._handle, self._pointer)
        return self.state

    def store(self) -> None:
        """Make `state` the CPU's state."""
        self._restore(self._handle, self._pointer)

    def snapshot(self) -> bytes:
        """The CPU state as bytes, for `resume`."""
        return bytes(self.load())

    def resume(self, saved: bytes) -> None:
        """Make an earlier snapshot the CPU's state."""
        self.state[:] = saved
        self.store()

    def hook_address(self, address: int, callback: Callable[[], None]) -> None:
        """Call `callback` each time the instruction at `address` is about to execute."""
        self.uc.hook_add(UC_HOOK_CODE, lambda uc, at, size, data: callback(), begin=address, end=address)
