"""What the machine asks of a vCPU, whatever its architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emu.cpu.engine import Engine


@dataclass(slots=True)
class TrapRecord:
    """One delivered exception, for traces: `number` is the vector (x86-64) or the syndrome (arm64)."""

    cpu: int
    number: int
    error: int  # x86-64: error code; arm64: 0
    address: int  # CR2 or FAR_EL1; 0 where the exception has none
    pc: int
    user: bool


class Vcpu(Protocol):
    """One vCPU. Addresses and register values are unsigned."""

    index: int
    engine: Engine
    traps: int  # exceptions delivered so far
    trace: list[TrapRecord] | None  # filled when it is a list

    def run(self, pc: int, count: int = 0) -> None:
        """Run from `pc` until the engine is stopped (see Engine.start)."""
        ...

    def pc(self) -> int:
        """Program counter."""
        ...

    def sp(self) -> int:
        """Stack pointer."""
        ...

    def result(self) -> int:
        """Integer result register of a call."""
        ...

    def enter_call(self, function: int, args: Sequence[int], return_address: int) -> None:
        """Set up registers and stack so that running from `function` is that call, on the current kernel stack."""
        ...

    def enter_kernel(self, pc: int, sp: int, args: Sequence[int] = ()) -> None:
        """Kernel mode at `pc` with stack `sp`, other registers zero, arguments in place."""
        ...

    def set_user_root(self, root: int) -> None:
        """Physical address of the page table of the user half; flushes the TLB."""
        ...

    def system_registers(self) -> dict[str, int]:
        """Control registers by their lower-case names, for oops printing."""
        ...
