"""The interrupt controller as one arm64 CPU sees it: what is pending for it, and interrupts that CPUs send each other.

Mirrors the system registers of a GICv3 CPU interface (Arm IHI 0069) that irq-gic-v3.c uses for software generated
interrupts: ICC_SGI1R_EL1, ICC_IAR1_EL1, ICC_EOIR1_EL1. Leaves out priorities, masks of single interrupts, SPIs, LPIs
and the distributor. The engine has no such registers: their instructions are undefined there, and the vCPU asks here.
"""

from __future__ import annotations

from collections.abc import Callable

from emu.cpu.engine import EngineError

ICC_SGI1R_EL1, ICC_IAR1_EL1, ICC_EOIR1_EL1 = 0xD518CBA0, 0xD538CC00, 0xD518CC20  # MSR/MRS with Rt = 0
_RT = 31
SPURIOUS = 1023


class CpuInterface:
    """The interface of CPU `number`. `send(interrupt, cpus)` passes an SGI on to other CPUs (a mask)."""

    def __init__(self, number: int) -> None:
        self._me = 1 << number
        self._pending = 0  # a bit for each of the SGIs and PPIs
        self.active: list[int] = []  # acknowledged, the innermost last
        self.send: Callable[[int, int], None] | None = None

    @property
    def pending(self) -> bool:
        """Whether the CPU's interrupt line is up."""
        return self._pending != 0

    def make_pending(self, interrupt: int) -> None:
        """An SGI (0 to 15) or PPI (16 to 31) arrives. EngineError for other numbers."""
        if not 0 <= interrupt < 32:
            raise EngineError(f"interrupt {interrupt}: a CPU's own are 0 to 31")
        self._pending |= 1 << interrupt

    @staticmethod
    def known(instruction: int) -> bool:
        """Whether the instruction reads or writes one of the registers."""
        return instruction & ~_RT in (ICC_SGI1R_EL1, ICC_IAR1_EL1, ICC_EOIR1_EL1)

    def execute(self, instruction: int, value: int) -> int | None:
        """MSR of `value`, or MRS: what it reads."""
        register = instruction & ~_RT
        if register == ICC_IAR1_EL1:
            return self._acknowledge()
        if register == ICC_SGI1R_EL1:
            self._generate(value)
        elif self.active and self.active[-1] == value & 0xFFFFFF:
            self.active.pop()
        return None

    def _acknowledge(self) -> int:
        """The lowest number goes first, as if all had one priority."""
        if not self._pending:
            return SPURIOUS
        interrupt = (self._pending & -self._pending).bit_length() - 1
        self._pending &= self._pending - 1
        self.active.append(interrupt)
        return interrupt

    def _generate(self, value: int) -> None:
        """ICC_SGI1R_EL1: INTID in [27:24], target list in [15:0]; affinities above the lowest are zero here."""
        interrupt, cpus = value >> 24 & 15, value & 0xFFFF
        if cpus & self._me:
            self.make_pending(interrupt)
        if cpus & ~self._me and self.send is not None:
            self.send(interrupt, cpus & ~self._me)
