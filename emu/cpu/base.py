"""What a vCPU is on either architecture: an engine, how it runs, and the registers that everybody asks for.

Mirrors no Linux file. Exceptions, system registers and the ways into user and kernel mode are the architectures' own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from unicorn import UC_HOOK_MEM_INVALID

from emu.cpu.engine import Engine, EngineError, MemCallback
from kernel_model.memory import GuestMemory


class BaseCpu:
    """vCPU `number` over `memory`; `on_trap` hears of every exception, `trap_count` counts them."""

    IP: ClassVar[int]  # Unicorn's numbers of the registers
    SP: ClassVar[int]
    RESULT: ClassVar[int]
    NOP_SIZE: ClassVar[int]
    TIMER_IRQ: ClassVar[int]  # numbers for raise_irq(): the CPU's own timer,
    CALL_IRQ: ClassVar[int]  # the interrupt that asks it to call functions,
    RESCHEDULE_IRQ: ClassVar[int]  # and the one that only makes it enter the kernel

    def __init__(self, number: int, memory: GuestMemory, arch: int, mode: int, model: int) -> None:
        self.number = number
        self.memory = memory
        self.engine = Engine(arch, mode, model, memory)
        self.trap_count = 0
        self.on_trap: Callable[[int, int | None], None] | None = None
        self.root = 0  # physical address of the user half's (x86-64: the one) root table

    def _hook_outside(self) -> None:
        """Accesses that page tables send outside RAM end the run."""
        engine, number = self.engine, self.number

        def outside(_uc: int, _kind: int, address: int, _size: int, _value: int, _user: int) -> bool:
            engine.stop(EngineError(f"CPU {number}: access to physical {address:#x}, which is no RAM"))
            return False

        engine._add(UC_HOOK_MEM_INVALID, MemCallback(outside), 1, 0)

    def run(self, count: int = 0, until: int = 0) -> None:
        """Execute from the current state until something stops the engine; `count` instructions at most, 0: no limit;
        not beyond address `until`, 0: none. KemuError subclasses raised by hooks come out here."""
        self.engine.start(self.ip, count, until)

    def stop(self) -> None:
        """End run() after the current instruction."""
        self.engine.stop()

    @property
    def ip(self) -> int:
        """RIP or PC."""
        return self.engine.read(self.IP)

    @property
    def sp(self) -> int:
        """RSP, or SP of the current exception level."""
        return self.engine.read(self.SP)

    @property
    def result(self) -> int:
        """RAX or X0: what a function returned."""
        return self.engine.read(self.RESULT)

    def flush_tlb(self) -> None:
        """Forget every cached translation."""
        self.engine.flush_tlb()

    def flush_code(self) -> None:
        """Forget every translated block: code was written from outside."""
        self.engine.flush_code()
