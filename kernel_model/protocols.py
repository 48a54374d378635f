"""What the virtual kernel asks of the machine it runs on. emu/machine.py implements it; tests may fake it."""

from __future__ import annotations

from typing import Protocol


class Guest(Protocol):
    """Guest code and data as the kernel model sees them. Addresses are guest virtual, unsigned."""

    def symbol(self, name: str) -> int:
        """Address of a symbol of the kernel image; KeyError names it."""
        ...

    def call(self, function: str | int, *args: int, return_address: int | None = None) -> int:
        """Run a guest function on the current vCPU to its return and give its unsigned 64-bit result.

        Up to six integer arguments. `return_address` places another return address in the frame (the
        interpreter's calls look as if the JITed image had made them); default is the machine's own stop stub.
        """
        ...

    def flush_tlb_kernel_range(self, start: int, end: int) -> None:
        """Invalidate cached translations of [start, end) on every vCPU."""
        ...

    def flush_icache_range(self, start: int, end: int) -> None:
        """Code in [start, end) was written from outside: forget translations of it on every vCPU."""
        ...

    @property
    def current_cpu(self) -> int:
        """Number of the vCPU that is executing (0 when none is)."""
        ...
