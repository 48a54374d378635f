"""An arm64 vCPU: EL1 and EL0 with the MMU on, and exceptions taken to EL1 as the hardware does.

Mirrors the Arm ARM's AArch64.TakeException(): ESR_EL1, FAR_EL1, SPSR_EL1, ELR_EL1, PSTATE with PAN set (SCTLR.SPAN is
0), the stack pointer of EL1, the vector. Interrupts come from gic.py. Leaves out EL2, EL3, SErrors, FIQs, debug
exceptions other than BRK.

Unicorn's reset state has EL1 as AArch32; `reset` fixes that. The fields of QEMU's CPUARMState are found by sentinels.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence

from unicorn import UC_ARCH_ARM64, UC_HOOK_INTR, UC_MODE_ARM
from unicorn import arm64_const as ua

from arch.arm64 import traps
from arch.arm64.pgtable import PGTABLE
from emu.cpu.base import BaseCpu
from emu.cpu.engine import uc_reg_read, uc_reg_write
from emu.cpu.gic import CpuInterface
from kernel_model.memory import GuestMemory

_M64 = 0xFFFF_FFFF_FFFF_FFFF
_EXCP_UDEF, _EXCP_PREFETCH, _EXCP_DATA = 1, 3, 4  # QEMU's exception numbers (target/arm/cpu.h)

# (op0, op1, CRn, CRm, op2)
SYSREGS: dict[str, tuple[int, int, int, int, int]] = {
    "scr_el3": (3, 6, 1, 1, 0),
    "hcr_el2": (3, 4, 1, 1, 0),
    "mair_el1": (3, 0, 10, 2, 0),
    "tcr_el1": (3, 0, 2, 0, 2),
    "ttbr0_el1": (3, 0, 2, 0, 0),
    "ttbr1_el1": (3, 0, 2, 0, 1),
    "cpacr_el1": (3, 0, 1, 0, 2),
    "sctlr_el1": (3, 0, 1, 0, 0),
    "vbar_el1": (3, 0, 12, 0, 0),
    "esr_el1": (3, 0, 5, 2, 0),
    "far_el1": (3, 0, 6, 0, 0),
    "elr_el1": (3, 0, 4, 0, 1),
    "spsr_el1": (3, 0, 4, 0, 0),
    "tpidr_el1": (3, 0, 13, 0, 4),
    "tpidr_el0": (3, 3, 13, 0, 2),
    "midr_el1": (3, 0, 0, 0, 0),
}


class _CpReg(ctypes.Structure):
    """uc_arm64_cp_reg."""

    _fields_ = [
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("val", ctypes.c_uint64),
    ]


class Cpu(BaseCpu):
    """vCPU `number`. `on_trap(syndrome, None)` hears of every exception."""

    IP, SP, RESULT = ua.UC_ARM64_REG_PC, ua.UC_ARM64_REG_SP, ua.UC_ARM64_REG_X0
    NOP_SIZE = 4
    TIMER_IRQ, CALL_IRQ, RESCHEDULE_IRQ = traps.VIRTUAL_TIMER_PPI, traps.IPI_CALL_FUNC, traps.IPI_RESCHEDULE

    def __init__(self, number: int, memory: GuestMemory) -> None:
        super().__init__(number, memory, UC_ARCH_ARM64, UC_MODE_ARM, ua.UC_CPU_ARM64_MAX)
        self.vbar = 0
        self.pan = True
        self.gic = CpuInterface(number)
        self._kernel_root = 0
        self._translate = PGTABLE.translate
        self._registers = {name: _CpReg(n[2], n[3], n[0], n[1], n[4], 0) for name, n in SYSREGS.items()}
        self._vbar_register = ctypes.byref(self._registers["vbar_el1"])
        self._locate()
        self.engine.hook_interrupts(self._on_interrupt)
        self._hook_outside()

    # -- where QEMU keeps things -------------------------------------------------------------------------------------

    def _locate(self) -> None:
        engine = self.engine
        sentinels = iter(range(0x5A5A_0000_1234_0000, 0x5A5A_0000_1235_0000, 0x10))
        self._x = self._place(sentinels, lambda v: engine.write(ua.UC_ARM64_REG_X0, v))
        self._sp = self._x + 31
        self._pc = self._x + 32
        self._sp_el0 = self._place(sentinels, lambda v: engine.write(ua.UC_ARM64_REG_SP_EL0, v))
        self._sp_el1 = self._sp_el0 + 1
        self._elr = self._place(sentinels, lambda v: self.write_sysreg("elr_el1", v))
        self._far = self._place(sentinels, lambda v: self.write_sysreg("far_el1", v))
        self._esr = self._place(sentinels, lambda v: self.write_sysreg("esr_el1", v))
        self._spsr = self._place(sentinels, lambda v: self.write_sysreg("spsr_el1", v))
        self._locate_syndrome()

    def _place(self, sentinels: Iterator[int], write: Callable[[int], None]) -> int:
        value = next(sentinels)
        write(value)
        at = self.engine.find(struct.pack("<Q", value)) // 8
        write(0)
        return at

    def _locate_syndrome(self) -> None:
        """env->exception {syndrome u32, fsr u32, vaddress u64, target_el u32}: run `brk #0x5a5a` with the MMU off."""
        engine, memory = self.engine, self.memory
        old = memory.read_u32(memory.base)
        memory.write_u32(memory.base, 0xD4200000 | 0x5A5A << 5)
        hook = engine.uc.hook_add(UC_HOOK_INTR, lambda uc, _number, _user: uc.emu_stop())
        engine.start(memory.base, 1)
        engine.uc.hook_del(hook)
        at = engine.find(struct.pack("<I", 0xF2005A5A))
        self._syndrome, self._vaddress = at // 4, (at + 8) // 8
        memory.write_u32(memory.base, old)
        engine.flush_code()

    # -- setting up --------------------------------------------------------------------------------------------------

    def write_sysreg(self, name: str, value: int) -> None:
        """MSR, without side effects on the TLB."""
        register = self._registers[name]
        register.val = value & _M64
        uc_reg_write(self.engine.handle, ua.UC_ARM64_REG_CP_REG, ctypes.byref(register))

    def read_sysreg(self, name: str) -> int:
        """MRS."""
        register = self._registers[name]
        uc_reg_read(self.engine.handle, ua.UC_ARM64_REG_CP_REG, ctypes.byref(register))
        value: int = register.val
        return value

    def reset(self, ttbr0: int, ttbr1: int, vectors: int, tpidr_el1: int, *, pan: bool = True) -> None:
        """EL1 with translation on: root tables of user and kernel half (physical), vectors, per-CPU base."""
        self.pan, self.vbar, self.root, self._kernel_root = pan, vectors, ttbr0, ttbr1
        values = {
            "scr_el3": 0x431,  # RW, NS: without RW the walker takes EL1 for AArch32; no HCE: hvc is undefined
            "hcr_el2": 1 << 31,
            "mair_el1": traps.MAIR_EL1,
            "tcr_el1": traps.TCR_EL1,
            "ttbr0_el1": ttbr0,
            "ttbr1_el1": ttbr1,
            "cpacr_el1": traps.CPACR_FPEN,
            "vbar_el1": vectors,
            "tpidr_el1": tpidr_el1,
            "sctlr_el1": traps.SCTLR_EL1 | (0 if pan else traps.SCTLR_SPAN),
        }
        for name, value in values.items():
            self.write_sysreg(name, value)
        self._write_pstate(traps.PSR_MODE_EL1H | (traps.PSR_PAN if pan else 0))
        self.engine.flush_tlb()

    def set_kernel_stack(self, top: int) -> None:
        """SP_EL1: the stack that exceptions from EL0 use. Only while the CPU is in EL0; see enter_user()."""
        self.engine.save()
        self.engine.q[self._sp_el1] = top
        self.engine.restore()

    def set_root(self, pa: int) -> None:
        """Write TTBR0_EL1: switch to the user address space whose root table is at `pa`; flushes the TLB."""
        self.root = pa
        self.write_sysreg("ttbr0_el1", pa)
        self.engine.flush_tlb()

    # -- registers and running ---------------------------------------------------------------------------------------

    @property
    def interrupts_enabled(self) -> bool:
        """Whether the CPU would take an interrupt."""
        return not self.engine.read(ua.UC_ARM64_REG_PSTATE) & traps.PSR_I

    @property
    def fault_address(self) -> int:
        """FAR_EL1."""
        return self.read_sysreg("far_el1")

    def _write_pstate(self, value: int) -> None:
        self.engine.write(ua.UC_ARM64_REG_PSTATE, value)
        self._registers["vbar_el1"].val = self.vbar
        uc_reg_write(self.engine.handle, ua.UC_ARM64_REG_CP_REG, self._vbar_register)  # rebuilds QEMU's cached flags

    def _enter(self, ip: int, arguments: Sequence[int]) -> None:
        self.engine.save()
        q, x = self.engine.q, self._x
        for i in range(30):
            q[x + i] = 0
        for i, value in enumerate(arguments):
            q[x + i] = value & _M64
        q[self._pc] = ip

    def enter_user(self, ip: int, sp: int, arguments: Sequence[int] = (), kernel_stack: int = 0) -> None:
        """Registers of a fresh EL0 task; `kernel_stack` (its top), where not 0, becomes SP_EL1."""
        self._enter(ip, arguments)
        q = self.engine.q
        q[self._x + 30] = 0
        q[self._sp] = q[self._sp_el0] = sp
        if kernel_stack:
            q[self._sp_el1] = kernel_stack
        self.engine.restore()
        self._write_pstate(traps.PSR_MODE_EL0T)

    def enter_kernel(
        self, ip: int, sp: int, arguments: Sequence[int] = (), *, fp: int = 0, x19: int = 0, x20: int = 0
    ) -> None:
        """Registers for a kernel function at `ip` (return address: push_return): EL1h, interrupts on, PAN set.

        `fp` is the caller's frame pointer; `x19` and `x20` carry function and argument of a new kernel thread.
        """
        self._enter(ip, arguments)
        q = self.engine.q
        q[self._x + 19], q[self._x + 20], q[self._x + 29] = x19, x20, fp
        self.engine.q[self._sp] = sp
        self.engine.restore()
        self._write_pstate(traps.PSR_MODE_EL1H | (traps.PSR_PAN if self.pan else 0))

    def push_return(self, sp: int, address: int) -> int:
        """The return address of a call goes to the link register; the stack pointer stays."""
        self.engine.save()
        self.engine.q[self._x + 30] = address
        self.engine.restore()
        return sp

    def control_registers(self) -> dict[str, int]:
        """ttbr0_el1, ttbr1_el1, sctlr_el1, tcr_el1, esr_el1, far_el1, ...: what oopses and people ask for."""
        return {name: self.read_sysreg(name) for name in SYSREGS if not name.endswith(("el3", "el2"))}

    # -- exceptions --------------------------------------------------------------------------------------------------

    def raise_irq(self, number: int, ip: int | None = None) -> bool:
        """Take interrupt `number` (an SGI or PPI) now, between two runs; False and nothing done where it is masked.

        What is interrupted goes on at `ip`, where given. Afterwards the CPU stands at the vector of EL1h or EL0.
        EngineError for other numbers.
        """
        pstate = self.engine.read(ua.UC_ARM64_REG_PSTATE)
        if pstate & traps.PSR_I:
            return False
        self.gic.make_pending(number)
        self.engine.save()
        if ip is not None:
            self.engine.q[self._pc] = ip
        self._take(pstate, traps.VECTOR_IRQ)
        return True

    def _on_interrupt(self, number: int) -> None:
        engine = self.engine
        pstate = engine.read(ua.UC_ARM64_REG_PSTATE)
        engine.save()
        q = engine.q
        if number == _EXCP_UDEF and pstate & traps.PSR_MODE_EL1H and self._gic_register(pstate):
            return
        syndrome = engine.d[self._syndrome]
        if number in (_EXCP_DATA, _EXCP_PREFETCH):
            q[self._far] = q[self._vaddress]
        q[self._esr] = syndrome
        self._take(pstate, traps.VECTOR_SYNC)

    def _gic_register(self, pstate: int) -> bool:
        """Execute the instruction at PC where it is one of gic.py's; an interrupt that it raises is taken behind it."""
        engine = self.engine
        q = engine.q
        pa = self._translate(self.memory.read_u64, self._kernel_root, q[self._pc])
        instruction = 0 if pa is None else self.memory.read_u32(pa)
        if not self.gic.known(instruction):
            return False
        register = instruction & 31
        result = self.gic.execute(instruction, 0 if register == 31 else q[self._x + register])
        if result is not None and register != 31:
            q[self._x + register] = result
        q[self._pc] += 4
        if self.gic.pending and not pstate & traps.PSR_I:
            self._take(pstate, traps.VECTOR_IRQ)
        else:
            engine.restore()
            self._write_pstate(pstate)
        return True

    def _take(self, pstate: int, kind: int) -> None:
        """AArch64.TakeException() from the saved state: the vector of this `kind` for where the CPU was."""
        q = self.engine.q
        q[self._elr] = q[self._pc]
        q[self._spsr] = pstate
        if pstate & traps.PSR_MODE_EL1T == 0:
            level = traps.VECTOR_EL0_64
        else:
            level = traps.VECTOR_EL1H if pstate & 1 else traps.VECTOR_EL1T
        if level != traps.VECTOR_EL1H:
            q[self._sp_el0], q[self._sp] = q[self._sp], q[self._sp_el1]
        q[self._pc] = self.vbar + level + kind
        self.trap_count += 1
        if self.on_trap is not None and kind == traps.VECTOR_SYNC:
            self.on_trap(q[self._esr], None)
        self.engine.restore()
        kept = pstate & (traps.PSR_NZCV | traps.PSR_PAN)
        self._write_pstate(kept | traps.PSR_MODE_EL1H | traps.PSR_DAIF | (traps.PSR_PAN if self.pan else 0))
