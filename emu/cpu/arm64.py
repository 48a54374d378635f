"""An arm64 vCPU: EL1 and EL0 with the MMU on, and exceptions taken as the architecture says.

Mirrors the Arm ARM's AArch64.TakeException() for exceptions to EL1: ESR, FAR, ELR, SPSR, PSTATE with PAN set
(SCTLR.SPAN is 0), the stack pointer of EL1, the vector. Leaves out EL2, EL3, AArch32, interrupts, SError, debug
exceptions.

Unicorn's reset state has EL1 as AArch32 and EL3 above it; `__init__` fixes that. The fields of QEMU's CPUARMState are
found by sentinels, never by fixed offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from unicorn import UC_ARCH_ARM64, UC_HOOK_MEM_INVALID, UC_MODE_ARM
from unicorn import arm64_const as ua

from arch.arm64 import traps
from arch.arm64.pgtable import PGTABLE
from arch.interface import Prot
from emu.cpu.engine import Engine, EngineError, MemCallback
from emu.cpu.interface import TrapRecord
from kernel_model.memory import GuestMemory

_M64 = 0xFFFF_FFFF_FFFF_FFFF
_KERNEL_PSTATE = traps.PSR_MODE_EL1H | traps.PSR_DAIF | traps.PSR_PAN
_MODE_MASK = 0xF
_BRK = 0xD4200000 | 0x5A5A << 5
_BRK_SYNDROME = 0xF2005A5A
# classes that write FAR_EL1
_ADDRESS_CLASSES = frozenset(
    (traps.EC_IABT_LOW, traps.EC_IABT_CUR, traps.EC_PC_ALIGN, traps.EC_DABT_LOW, traps.EC_DABT_CUR)
)

# system registers as (op0, op1, CRn, CRm, op2)
_SCTLR_EL1, _CPACR_EL1 = (3, 0, 1, 0, 0), (3, 0, 1, 0, 2)
_TTBR0_EL1, _TTBR1_EL1, _TCR_EL1 = (3, 0, 2, 0, 0), (3, 0, 2, 0, 1), (3, 0, 2, 0, 2)
_SPSR_EL1, _ELR_EL1, _ESR_EL1, _FAR_EL1 = (3, 0, 4, 0, 0), (3, 0, 4, 0, 1), (3, 0, 5, 2, 0), (3, 0, 6, 0, 0)
_MAIR_EL1, _VBAR_EL1, _TPIDR_EL1 = (3, 0, 10, 2, 0), (3, 0, 12, 0, 0), (3, 0, 13, 0, 4)
_HCR_EL2, _SCR_EL3 = (3, 4, 1, 1, 0), (3, 6, 1, 1, 0)


class Arm64Cpu:
    """One vCPU."""

    def __init__(self, index: int, memory: GuestMemory) -> None:
        self.index = index
        self.memory = memory
        self.engine = engine = Engine(UC_ARCH_ARM64, UC_MODE_ARM, ua.UC_CPU_ARM64_MAX, memory)
        self.traps = 0
        self.trace: list[TrapRecord] | None = None
        self.clock: Callable[[], int] = lambda: 0
        self.kernel_root = 0
        self._vbar = 0
        self._kernel_hflags = 0
        self._calibrating = True
        engine.hook_interrupts(self._on_interrupt)
        self._hook_outside()
        self._locate()
        self._calibrating = False
        self._write_system(_SCR_EL3, 0x431)  # RW, NS: EL1 is AArch64 and not secure; no HCE: hvc is undefined
        self._write_system(_HCR_EL2, 1 << 31)  # RW

    # -- where QEMU keeps things -------------------------------------------------------------------------------------

    def _locate(self) -> None:
        engine = self.engine
        engine.write(ua.UC_ARM64_REG_X0, 0x1111_2222_3333_4444)
        engine.write(ua.UC_ARM64_REG_X1, 0x1111_2222_3333_5555)
        x = engine.find(struct.pack("<2Q", 0x1111_2222_3333_4444, 0x1111_2222_3333_5555))
        self._x = x // 8
        self._sp = self._x + 31
        self._pc = self._x + 32
        self._pstate = (x + 33 * 8) // 4  # pstate, aarch64, hflags: 32-bit words
        self._hflags = self._pstate + 2
        self._esr = self._find_system(_ESR_EL1)
        self._far = self._find_system(_FAR_EL1)
        self._elr = self._find_system(_ELR_EL1)
        self._spsr = self._find_system(_SPSR_EL1)
        self._sp_el0 = self._find_register(ua.UC_ARM64_REG_SP_EL0)
        self._sp_el1 = self._sp_el0 + 1
        self._locate_exception()
        engine.write(ua.UC_ARM64_REG_X0, 0)
        engine.write(ua.UC_ARM64_REG_X1, 0)

    def _find_system(self, register: tuple[int, ...]) -> int:
        sentinel = 0x5A5A_1234_A5A5_4321
        self._write_system(register, sentinel)
        at = self.engine.find(struct.pack("<Q", sentinel)) // 8
        self._write_system(register, 0)
        return at

    def _find_register(self, register: int) -> int:
        sentinel = 0x5A5A_1234_A5A5_8760
        self.engine.write(register, sentinel)
        at = self.engine.find(struct.pack("<Q", sentinel)) // 8
        self.engine.write(register, 0)
        return at

    def _locate_exception(self) -> None:
        """Run a brk with the MMU off: its syndrome shows where env->exception is."""
        memory, engine = self.memory, self.engine
        old = memory.read_u32(memory.base)
        memory.write_u32(memory.base, _BRK)
        engine.start(memory.base)
        memory.write_u32(memory.base, old)
        at = engine.find(struct.pack("<I", _BRK_SYNDROME))
        self._syndrome = at // 4
        self._vaddress = (at + 8) // 8
        engine.flush_code()

    # -- setting up --------------------------------------------------------------------------------------------------

    def _write_system(self, register: tuple[int, ...], value: int) -> None:
        op0, op1, crn, crm, op2 = register
        self.engine.uc.reg_write(ua.UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2, value))

    def read_system(self, register: tuple[int, ...]) -> int:
        """MRS."""
        op0, op1, crn, crm, op2 = register
        value: int = self.engine.uc.reg_read(ua.UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2))
        return value

    def enable_mmu(self, root: int) -> None:
        """EL1 with the MMU on: `root` is the physical address of TTBR1's table; TTBR0 starts out the same."""
        self.kernel_root = root
        self._write_system(_MAIR_EL1, traps.MAIR_EL1)
        self._write_system(_TCR_EL1, traps.TCR_EL1)
        self._write_system(_TTBR0_EL1, root)
        self._write_system(_TTBR1_EL1, root)
        self._write_system(_CPACR_EL1, traps.CPACR_FPEN)
        self.engine.write(ua.UC_ARM64_REG_PSTATE, _KERNEL_PSTATE)
        self._write_system(_SCTLR_EL1, traps.SCTLR_EL1)  # recomputes hflags, too
        self.engine.save()
        self._kernel_hflags = self.engine.d[self._hflags]
        self.engine.flush_tlb()

    def set_vectors(self, address: int) -> None:
        """Write VBAR_EL1."""
        self._vbar = address
        self._write_system(_VBAR_EL1, address)

    def set_percpu_offset(self, offset: int) -> None:
        """Write TPIDR_EL1."""
        self._write_system(_TPIDR_EL1, offset)

    def set_user_root(self, root: int) -> None:
        """Write TTBR0_EL1; flushes the TLB."""
        self._write_system(_TTBR0_EL1, root)
        self.engine.flush_tlb()

    # -- registers and running ---------------------------------------------------------------------------------------

    def run(self, pc: int, count: int = 0) -> None:
        """Run from `pc` until the engine is stopped (see Engine.start)."""
        self.engine.start(pc, count)

    def pc(self) -> int:
        """The program counter."""
        return self.engine.read(ua.UC_ARM64_REG_PC)

    def sp(self) -> int:
        """SP of the current exception level."""
        return self.engine.read(ua.UC_ARM64_REG_SP)

    def result(self) -> int:
        """X0."""
        return self.engine.read(ua.UC_ARM64_REG_X0)

    def enter_kernel(self, pc: int, sp: int, args: Sequence[int] = ()) -> None:
        """EL1h at `pc` with stack `sp`, PAN set, interrupts on, other registers zero, arguments in X0 and up."""
        engine = self.engine
        engine.save()
        q = engine.q
        for i in range(31):
            q[self._x + i] = 0
        for i, value in enumerate(args):
            q[self._x + i] = value & _M64
        q[self._sp], q[self._pc] = sp, pc
        self._set_el1()
        engine.restore()
        engine.write(ua.UC_ARM64_REG_PSTATE, traps.PSR_MODE_EL1H | traps.PSR_PAN)

    def enter_call(self, function: int, args: Sequence[int], return_address: int) -> None:
        """Arguments in X0 and up, return address in X30, stack aligned."""
        engine = self.engine
        engine.save()
        q = engine.q
        for i, value in enumerate(args):
            q[self._x + i] = value & _M64
        q[self._x + 30] = return_address
        q[self._sp] &= ~15 & _M64
        q[self._pc] = function
        engine.restore()

    def _set_el1(self) -> None:
        """The saved state's fields that make the exception level EL1h with PAN."""
        d = self.engine.d
        d[self._pstate] = d[self._pstate] & ~_MODE_MASK | traps.PSR_MODE_EL1H | traps.PSR_PAN
        d[self._hflags] = self._kernel_hflags

    def system_registers(self) -> dict[str, int]:
        """ttbr0, ttbr1, esr, far, elr, spsr, sctlr, tcr, vbar, tpidr (all _EL1)."""
        names = {"ttbr0": _TTBR0_EL1, "ttbr1": _TTBR1_EL1, "esr": _ESR_EL1, "far": _FAR_EL1}
        names |= {"elr": _ELR_EL1, "spsr": _SPSR_EL1, "sctlr": _SCTLR_EL1, "tcr": _TCR_EL1}
        names |= {"vbar": _VBAR_EL1, "tpidr": _TPIDR_EL1}
        return {name: self.read_system(register) for name, register in names.items()}

    # -- memory as the CPU sees it -----------------------------------------------------------------------------------

    def translate(self, va: int) -> int | None:
        """Physical address of a kernel address by the page tables, None where a write would fault."""
        walk = PGTABLE.walk(self.memory.read_u64, self.kernel_root, va)
        return walk.pa if walk.prot & Prot.WRITE else None

    # -- exceptions --------------------------------------------------------------------------------------------------

    def _on_interrupt(self, number: int) -> None:
        engine = self.engine
        if self._calibrating:
            engine.stop()
            return
        engine.save()
        q = engine.q
        pstate = engine.read(ua.UC_ARM64_REG_PSTATE)
        esr = engine.d[self._syndrome]
        pc = q[self._pc]
        user = pstate & _MODE_MASK == traps.PSR_MODE_EL0T
        q[self._esr] = esr
        far = q[self._vaddress]
        has_address = esr >> traps.ESR_EC_SHIFT in _ADDRESS_CLASSES
        if has_address:
            q[self._far] = far
        q[self._elr], q[self._spsr] = pc, pstate
        vector = traps.VECTOR_EL1H_SYNC
        if user:
            vector = traps.VECTOR_EL0_64_SYNC
            q[self._sp_el0], q[self._sp] = q[self._sp], q[self._sp_el1]
        elif pstate & _MODE_MASK != traps.PSR_MODE_EL1H:
            raise EngineError(f"cpu{self.index}: exception {number} in mode {pstate & 15:#x} at {pc:#018x}")
        q[self._pc] = self._vbar + vector
        self._set_el1()
        engine.restore()
        engine.write(ua.UC_ARM64_REG_PSTATE, _KERNEL_PSTATE)
        self.traps += 1
        if self.trace is not None:
            self.trace.append(TrapRecord(self.index, esr, 0, far if has_address else 0, pc, user))

    def _hook_outside(self) -> None:
        engine = self.engine

        def outside(_uc: int, _kind: int, address: int, _size: int, _value: int, _user: int) -> bool:
            engine.stop(EngineError(f"cpu{self.index}: access to physical {address:#x}, which is no RAM"))
            return False

        engine._add(UC_HOOK_MEM_INVALID, MemCallback(outside), 1, 0)
