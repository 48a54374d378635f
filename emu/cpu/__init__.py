"""vCPUs: one Unicorn engine each, with the trap delivery of the real hardware."""

from __future__ import annotations

from emu.cpu.interface import Vcpu
from kernel_model.memory import GuestMemory

__all__ = ["Vcpu", "create"]


def create(arch: str, index: int, memory: GuestMemory) -> Vcpu:
    """A vCPU of `arch` ("x86_64" or "arm64") over `memory`, MMU still off."""
    if arch == "x86_64":
        from emu.cpu.x86_64 import X86Cpu

        return X86Cpu(index, memory)
    from emu.cpu.arm64 import Arm64Cpu

    return Arm64Cpu(index, memory)
