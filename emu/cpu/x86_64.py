"""An x86-64 vCPU: the engine executes, this does what hardware does between an exception and the handler.

Unicorn stops at an exception and leaves delivery to us: pick the gate from the IDT, switch stacks by TSS and IST,
push the frame, load CS and SS. A frame that cannot be pushed is a double fault; one that cannot be delivered either
is a triple fault and ends the machine. Field offsets in the engine's state are found with sentinels at start.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from unicorn import Uc, UcError
from unicorn.unicorn_const import (
    UC_ARCH_X86,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_HOOK_INTR,
    UC_MODE_64,
)
from unicorn.x86_const import (
    UC_CPU_X86_SKYLAKE_CLIENT,
    UC_X86_INS_SYSCALL,
    UC_X86_REG_CR0,
    UC_X86_REG_CR2,
    UC_X86_REG_CR3,
    UC_X86_REG_CR4,
    UC_X86_REG_DR0,
    UC_X86_REG_GDTR,
    UC_X86_REG_IDTR,
    UC_X86_REG_MSR,
    UC_X86_REG_RFLAGS,
    UC_X86_REG_TR,
)

from arch.interface import PAGE_SIZE
from arch.x86_64 import traps
from arch.x86_64.pgtable import PGTABLE
from emu.cpu.engine import Engine
from kernel_model.errors import KemuError
from kernel_model.memory import GuestMemory

_Q = struct.Struct("<Q")
_SEG = struct.Struct("<I4xQII")
# CPUX86State: regs[16] in encoding order, rip, eflags (without condition codes), hflags, segment caches
_RIP, _EFLAGS, _HFLAGS, _SEGS = 128, 136, 176, 184
_RSP, _RAX = 4 * 8, 0
_ARGUMENTS = (7 * 8, 6 * 8, 2 * 8, 1 * 8, 8 * 8, 9 * 8)  # rdi rsi rdx rcx r8 r9
_CS, _SS = 1, 2


class TripleFaultError(KemuError):
    """The CPU could not deliver a double fault: on hardware the machine resets."""


class Cpu:
    """vCPU `number`. Addresses are guest virtual unless named pa."""

    def __init__(self, number: int, memory: GuestMemory) -> None:
        self.number = number
        self.memory = memory
        self.engine = Engine(UC_ARCH_X86, UC_MODE_64, UC_CPU_X86_SKYLAKE_CLIENT, memory)
        self.uc = self.engine.uc
        self._locate()
        uc = self.uc
        uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(UC_HOOK_INSN_INVALID, self._on_invalid)
        uc.hook_add(UC_HOOK_INSN, self._on_syscall, None, 1, 0, UC_X86_INS_SYSCALL)
        self.idt = self.tss = 0
        self.on_trap: Callable[[int, int | None], None] | None = None

    def _locate(self) -> None:
        """Find error_code and old_exception in the engine's state: they lie at fixed distances from the DRs."""
        uc = self.uc
        sentinels = [0x1111_2222_3333_0000 + i for i in range(4)]
        for i, value in enumerate(sentinels):
            uc.reg_write(UC_X86_REG_DR0 + i, value)
        at = bytes(self.engine.load()).index(struct.pack("<4Q", *sentinels))
        for i in range(4):
            uc.reg_write(UC_X86_REG_DR0 + i, 0)
        self._error, self._is_int, self._old = at - 16, at - 12, at + 96

    # -- set-up ------------------------------------------------------------------------------------------------------

    def reset(self, cr3: int, gdt: int, idt: int, tss: int, gs_base: int, syscall_entry: int) -> None:
        """Long mode with paging on, as the boot CPU's start code leaves it; CPL 0, interrupts off."""
        uc = self.uc
        self.write_msr(traps.MSR_EFER, traps.EFER)
        uc.reg_write(UC_X86_REG_CR3, cr3)
        uc.reg_write(UC_X86_REG_CR4, traps.CR4)
        uc.reg_write(UC_X86_REG_CR0, traps.CR0)
        uc.reg_write(UC_X86_REG_GDTR, (0, gdt, 0x4F, 0))
        uc.reg_write(UC_X86_REG_IDTR, (0, idt, 0xFFF, 0))
        uc.reg_write(UC_X86_REG_TR, (traps.TSS_SELECTOR, tss, traps.TSS_SIZE - 1, 0x8B00))
        self.idt, self.tss = idt, tss
        self.write_msr(traps.MSR_STAR, 0x23 << 48 | traps.KERNEL_CS << 32)
        self.write_msr(traps.MSR_LSTAR, syscall_entry)
        self.write_msr(traps.MSR_SYSCALL_MASK, traps.SYSCALL_MASK)
        self.write_msr(traps.MSR_GS_BASE, gs_base)
        self.write_msr(traps.MSR_KERNEL_GS_BASE, 0)
        self.gs_base = gs_base
        self._lstar = syscall_entry
        state = self.engine.load()
        self._segments(state, user=False)
        self.engine.store()

    def write_msr(self, number: int, value: int) -> None:
        """wrmsr."""
        self.uc.reg_write(UC_X86_REG_MSR, (number, value))

    def read_msr(self, number: int) -> int:
        """rdmsr."""
        value: int = self.uc.reg_read(UC_X86_REG_MSR, number)
        return value

    def set_root(self, pa: int) -> None:
        """Switch to the address space whose root table is at `pa`."""
        self.uc.reg_write(UC_X86_REG_CR3, pa)
        self.uc.ctl_flush_tlb()

    @property
    def root(self) -> int:
        """CR3's table, a physical address."""
        value: int = self.uc.reg_read(UC_X86_REG_CR3)
        return value & ~0xFFF

    @property
    def fault_address(self) -> int:
        """CR2."""
        value: int = self.uc.reg_read(UC_X86_REG_CR2)
        return value

    def control_registers(self) -> dict[str, int]:
        """CR0, CR2, CR3, CR4 and the segment bases, for oopses."""
        uc, msr = self.uc, self.read_msr
        return {
            "cr0": uc.reg_read(UC_X86_REG_CR0), "cr2": uc.reg_read(UC_X86_REG_CR2),
            "cr3": uc.reg_read(UC_X86_REG_CR3), "cr4": uc.reg_read(UC_X86_REG_CR4),
            "fs_base": msr(traps.MSR_FS_BASE), "gs_base": msr(traps.MSR_GS_BASE),
            "kernel_gs_base": msr(traps.MSR_KERNEL_GS_BASE),
        }

    # -- registers ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _segments(state: memoryview, *, user: bool) -> None:
        cs = (traps.USER_CS, *traps.CS_USER_CACHE) if user else (traps.KERNEL_CS, *traps.CS_KERNEL_CACHE)
        ss = (traps.USER_DS, *traps.SS_USER_CACHE) if user else (traps.KERNEL_DS, *traps.SS_KERNEL_CACHE)
        _SEG.pack_into(state, _SEGS + 24 * _CS, *cs)
        _SEG.pack_into(state, _SEGS + 24 * _SS, *ss)
        state[_HFLAGS] = state[_HFLAGS] & ~3 | (3 if user else 0)

    def enter_user(self, ip: int, sp: int, arguments: tuple[int, ...] = ()) -> None:
        """Registers of a fresh user-mode task: `arguments` as a function's first ones, everything else zero."""
        state = self.engine.load()
        state[: 16 * 8] = bytes(16 * 8)
        for offset, value in zip(_ARGUMENTS, arguments, strict=False):
            _Q.pack_into(state, offset, value)
        _Q.pack_into(state, _RSP, sp)
        _Q.pack_into(state, _RIP, ip)
        self._segments(state, user=True)
        self.engine.store()
        self.uc.reg_write(UC_X86_REG_RFLAGS, 2 | traps.X86_EFLAGS_IF)
        self.write_msr(traps.MSR_GS_BASE, 0)
        self.write_msr(traps.MSR_KERNEL_GS_BASE, self.gs_base)

    def enter_kernel(self, ip: int, sp: int, arguments: tuple[int, ...] = ()) -> None:
        """Registers for a kernel function at `ip`; the word at `sp` is its return address."""
        state = self.engine.load()
        for offset, value in zip(_ARGUMENTS, arguments, strict=False):
            _Q.pack_into(state, offset, value & 0xFFFF_FFFF_FFFF_FFFF)
        _Q.pack_into(state, _RSP, sp)
        _Q.pack_into(state, _RIP, ip)
        _Q.pack_into(state, 5 * 8, 0)
        self._segments(state, user=False)
        self.engine.store()

    @property
    def ip(self) -> int:
        """RIP."""
        value: int = _Q.unpack_from(self.engine.load(), _RIP)[0]
        return value

    @property
    def sp(self) -> int:
        """RSP."""
        value: int = _Q.unpack_from(self.engine.load(), _RSP)[0]
        return value

    @property
    def result(self) -> int:
        """RAX: what a function returned."""
        value: int = _Q.unpack_from(self.engine.load(), _RAX)[0]
        return value

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, count: int = 0) -> None:
        """Execute from the current state until something stops the engine; `count` instructions at most, 0: no limit.

        KemuError subclasses raised by hooks come out here.
        """
        try:
            self.uc.emu_start(self.ip, 0, 0, count)
        except UcError as error:
            raise TripleFaultError(f"CPU {self.number}: the engine stopped at {self.ip:#x}: {error}") from None

    def stop(self) -> None:
        """End run() after the current instruction."""
        self.uc.emu_stop()

    def flush_tlb(self) -> None:
        """Forget every cached translation."""
        self.uc.ctl_flush_tlb()

    def flush_code(self) -> None:
        """Forget every translated block: code was written from outside."""
        self.uc.ctl_flush_tb()

    # -- exceptions --------------------------------------------------------------------------------------------------

    def _write(self, va: int, data: bytes) -> bool:
        """Push: store at `va` through the page tables, False where a page is missing or read-only."""
        root, memory, done = self.root, self.memory, 0
        while done < len(data):
            at = va + done
            walk = PGTABLE.walk(memory.read_u64, root, at)
            if walk.pa is None or not walk.prot & 2:
                return False
            n = min(len(data) - done, PAGE_SIZE - at % PAGE_SIZE)
            memory.write(walk.pa, data[done : done + n])
            done += n
        return True

    def _read(self, va: int, length: int) -> bytes:
        walk = PGTABLE.walk(self.memory.read_u64, self.root, va)
        if walk.pa is None:
            raise TripleFaultError(f"CPU {self.number}: descriptor tables at {va:#x} are not mapped")
        return self.memory.read(walk.pa, length)

    def _on_interrupt(self, uc: Uc, vector: int, data: object) -> None:
        state = self.engine.load()
        software = bool(state[self._is_int])
        error = None if software else struct.unpack_from("<i", state, self._error)[0] & 0xFFFFFFFF
        self.deliver(vector, error)

    def _on_invalid(self, uc: Uc, data: object) -> bool:
        self.deliver(traps.X86_TRAP_UD, None)
        return True

    def deliver(self, vector: int, error: int | None) -> None:
        """Take exception `vector` at the current instruction."""
        if self.on_trap is not None:
            self.on_trap(vector, error)
        state = self.engine.load()
        rip, rsp = _Q.unpack_from(state, _RIP)[0], _Q.unpack_from(state, _RSP)[0]
        rflags = self.uc.reg_read(UC_X86_REG_RFLAGS)
        cs = struct.unpack_from("<I", state, _SEGS + 24 * _CS)[0]
        ss = struct.unpack_from("<I", state, _SEGS + 24 * _SS)[0]
        user = state[_HFLAGS] & 3 == 3
        for attempt in (vector, traps.X86_TRAP_DF):
            gate = traps.read_gate(self._read(self.idt + attempt * 16, 16))
            if gate is None:
                continue
            handler, ist = gate
            if ist:
                top = _Q.unpack(self._read(self.tss + traps.TSS_IST1 + (ist - 1) * 8, 8))[0]
            elif user:
                top = _Q.unpack(self._read(self.tss + traps.TSS_SP0, 8))[0]
            else:
                top = rsp
            pushed = traps.frame(attempt, error if attempt == vector else 0, rip, cs, rflags, rsp, ss)
            sp = (top & ~15) - len(pushed)
            if self._write(sp, pushed):
                break
        else:
            raise TripleFaultError(f"CPU {self.number}: exception {vector} at {rip:#x} cannot be delivered")
        struct.pack_into("<i", state, self._old, -1)
        _Q.pack_into(state, _RIP, handler)
        _Q.pack_into(state, _RSP, sp)
        self._segments(state, user=False)
        self.engine.store()
        cleared = traps.X86_EFLAGS_TF | traps.X86_EFLAGS_NT | traps.X86_EFLAGS_RF | traps.X86_EFLAGS_IF
        self.uc.reg_write(UC_X86_REG_RFLAGS, rflags & ~cleared)

    def _on_syscall(self, uc: Uc, data: object) -> None:
        state = self.engine.load()
        rip = _Q.unpack_from(state, _RIP)[0]
        rflags = self.uc.reg_read(UC_X86_REG_RFLAGS)
        _Q.pack_into(state, 1 * 8, rip + 2)
        _Q.pack_into(state, 11 * 8, rflags)
        _Q.pack_into(state, _RIP, self._lstar - 2)  # the engine adds the length of the instruction afterwards
        self._segments(state, user=False)
        self.engine.store()
        uc.reg_write(UC_X86_REG_RFLAGS, rflags & ~traps.SYSCALL_MASK | 2)
