"""An x86-64 vCPU: long mode, and exceptions delivered as the hardware does.

Mirrors Intel SDM vol. 3A chapter 6: gate, stack switch by TSS and IST, frame, error code, #PF while delivering, #DF,
triple fault; and SYSCALL (vol. 2B). Leaves out segment limits, call gates, alignment checks, TF single steps and
#SS for non-canonical stack accesses (they are #GP).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence

from unicorn import UC_ARCH_X86, UC_HOOK_INSN, UC_HOOK_INSN_INVALID, UC_MODE_64
from unicorn import x86_const as ux

from arch.x86_64 import traps
from emu.cpu.base import BaseCpu
from emu.cpu.engine import EngineError, InsnCallback, InsnInvalidCallback
from kernel_model.memory import GuestMemory

_M64 = 0xFFFF_FFFF_FFFF_FFFF
_PFN = 0x000F_FFFF_FFFF_F000

# words of CPUX86State (QEMU 5.0 target/i386/cpu.h): regs[16], eip, eflags, 4 lazy-flag words, hflags, segs[6]
_RAX, _RCX, _RDX, _RBX, _RSP, _RBP, _RSI, _RDI, _R8, _R9, _R10, _R11 = range(12)
_RIP, _EFLAGS = 16, 17  # 64-bit words
_HFLAGS = 176 // 4  # 32-bit words from here on
_CS, _SS = (184 + 24) // 4, (184 + 48) // 4  # selector; base at +2 (64 bit), limit +4, flags +5
_HF_CPL = 3

_DELIVERY_CLEARS = traps.X86_EFLAGS_TF | traps.X86_EFLAGS_NT | traps.X86_EFLAGS_RF
_CONTRIBUTORY = frozenset({0, 10, 11, 12, 13})  # SDM vol. 3A table 6-5

_PACK5, _PACK6 = struct.Struct("<5Q"), struct.Struct("<6Q")
_ARG_REGS = (_RDI, _RSI, _RDX, _RCX, _R8, _R9)


class TripleFaultError(EngineError):
    """The CPU could not deliver a double fault: on hardware the machine resets."""


class Cpu(BaseCpu):
    """vCPU `number`. `clock` gives what rdtsc reads; `on_trap(vector, error code)` hears of every exception."""

    IP, SP, RESULT = ux.UC_X86_REG_RIP, ux.UC_X86_REG_RSP, ux.UC_X86_REG_RAX
    NOP_SIZE = 1
    TIMER_IRQ, CALL_IRQ = traps.LOCAL_TIMER_VECTOR, traps.CALL_FUNCTION_SINGLE_VECTOR
    RESCHEDULE_IRQ = traps.RESCHEDULE_VECTOR

    def __init__(self, number: int, memory: GuestMemory) -> None:
        super().__init__(number, memory, UC_ARCH_X86, UC_MODE_64, ux.UC_CPU_X86_SKYLAKE_CLIENT)
        engine = self.engine
        self.clock: Callable[[], int] = lambda: 0
        self.gs_base = self._lstar = 0
        self._idt = memory.view(memory.base, 4096).cast("Q")
        self._tss = memory.view(memory.base, traps.TSS_SIZE)
        self._locate()
        engine.hook_interrupts(self._on_interrupt)
        self._hook_invalid()
        self._hook_outside()
        self._hook_instruction(ux.UC_X86_INS_SYSCALL, self._on_syscall)
        self._hook_instruction(ux.UC_X86_INS_RDTSC, self._on_rdtsc)

    def _locate(self) -> None:
        """Find the exception fields of CPUX86State by sentinels in the debug registers and CR2."""
        engine = self.engine
        sentinels = [0x1111_2222_3333_0000 + i for i in range(4)]
        old = [engine.read(ux.UC_X86_REG_DR0 + i) for i in range(4)]
        for i, value in enumerate(sentinels):
            engine.write(ux.UC_X86_REG_DR0 + i, value)
        dr = engine.find(struct.pack("<4Q", *sentinels))
        for i, value in enumerate(old):
            engine.write(ux.UC_X86_REG_DR0 + i, value)
        self._error = (dr - 16) // 4
        self._is_int = (dr - 12) // 4
        self._old_exception = (dr + 96) // 4
        engine.write(ux.UC_X86_REG_CR2, 0x5A5A_1234_A5A5_4321)
        self._cr2 = engine.find(struct.pack("<Q", 0x5A5A_1234_A5A5_4321)) // 8
        engine.write(ux.UC_X86_REG_CR2, 0)

    # -- setting up --------------------------------------------------------------------------------------------------

    def reset(self, cr3: int, gdt: int, idt: int, tss: int, gs_base: int, syscall_entry: int) -> None:
        """Long mode with paging on, as the boot CPU's start code leaves it; CPL 0, interrupts off.

        `cr3` is physical; the tables are kernel addresses and must stay where they are.
        """
        engine, uc = self.engine, self.engine.uc
        self.root = cr3
        self.write_msr(traps.MSR_EFER, traps.EFER)
        engine.write(ux.UC_X86_REG_CR3, cr3)
        engine.write(ux.UC_X86_REG_CR4, traps.CR4)
        engine.write(ux.UC_X86_REG_CR0, traps.CR0)
        uc.reg_write(ux.UC_X86_REG_GDTR, (0, gdt, 0x4F, 0))
        uc.reg_write(ux.UC_X86_REG_IDTR, (0, idt, 0xFFF, 0))
        uc.reg_write(ux.UC_X86_REG_TR, (traps.TSS_SELECTOR, tss, traps.TSS_SIZE - 1, 0x8B00))
        idt_pa, tss_pa = self.translate(idt), self.translate(tss)
        if idt_pa is None or tss_pa is None:
            raise EngineError(f"CPU {self.number}: IDT {idt:#x} or TSS {tss:#x} is not mapped")
        self._idt = self.memory.view(idt_pa, 4096).cast("Q")
        self._tss = self.memory.view(tss_pa, traps.TSS_SIZE)
        self.write_msr(traps.MSR_STAR, 0x23 << 48 | traps.KERNEL_CS << 32)
        self.write_msr(traps.MSR_LSTAR, syscall_entry)
        self.write_msr(traps.MSR_SYSCALL_MASK, traps.SYSCALL_MASK)
        self.write_msr(traps.MSR_GS_BASE, gs_base)
        self.write_msr(traps.MSR_KERNEL_GS_BASE, 0)
        self.gs_base, self._lstar = gs_base, syscall_entry
        engine.save()
        self._set_ring0()
        self._set_segment(_SS, traps.KERNEL_DS, traps.SS_KERNEL_CACHE)
        engine.restore()

    def write_msr(self, number: int, value: int) -> None:
        """WRMSR."""
        self.engine.uc.reg_write(ux.UC_X86_REG_MSR, (number, value))

    def read_msr(self, number: int) -> int:
        """RDMSR."""
        value: int = self.engine.uc.reg_read(ux.UC_X86_REG_MSR, number)
        return value

    def set_kernel_stack(self, top: int) -> None:
        """TSS.RSP0: the stack that exceptions from user mode use."""
        self._tss[traps.TSS_SP0 : traps.TSS_SP0 + 8] = top.to_bytes(8, "little")

    def set_root(self, pa: int) -> None:
        """Write CR3: switch to the address space whose root table is at `pa`; flushes the TLB."""
        self.root = pa
        self.engine.write(ux.UC_X86_REG_CR3, pa)
        self.engine.flush_tlb()

    # -- registers and running ---------------------------------------------------------------------------------------

    @property
    def interrupts_enabled(self) -> bool:
        """Whether the CPU would take an interrupt."""
        return bool(self.engine.read(ux.UC_X86_REG_RFLAGS) & traps.X86_EFLAGS_IF)

    @property
    def fault_address(self) -> int:
        """CR2."""
        return self.engine.read(ux.UC_X86_REG_CR2)

    def _enter(self, ip: int, sp: int, arguments: Sequence[int]) -> None:
        self.engine.save()
        q = self.engine.q
        for i in range(16):
            q[i] = 0
        for register, value in zip(_ARG_REGS, arguments, strict=False):
            q[register] = value & _M64
        q[_RSP], q[_RIP] = sp, ip

    def enter_user(self, ip: int, sp: int, arguments: Sequence[int] = ()) -> None:
        """Registers of a fresh user-mode task: `arguments` as a function's first ones, everything else zero."""
        self._enter(ip, sp, arguments)
        self.engine.d[_HFLAGS] |= 3
        self._set_segment(_CS, traps.USER_CS, traps.CS_USER_CACHE)
        self._set_segment(_SS, traps.USER_DS, traps.SS_USER_CACHE)
        self.engine.restore()
        self.engine.write(ux.UC_X86_REG_RFLAGS, 2 | traps.X86_EFLAGS_IF)
        self.write_msr(traps.MSR_GS_BASE, 0)
        self.write_msr(traps.MSR_KERNEL_GS_BASE, self.gs_base)

    def enter_kernel(
        self, ip: int, sp: int, arguments: Sequence[int] = (), *, fp: int = 0, rbx: int = 0, r12: int = 0
    ) -> None:
        """Registers for a kernel function at `ip`; the word at `sp` is its return address (see push_return).

        `fp` is the caller's frame pointer; `rbx` and `r12` carry function and argument of a new kernel thread.
        """
        self._enter(ip, sp, arguments)
        self.engine.q[_RBX], self.engine.q[_RBP], self.engine.q[12] = rbx, fp, r12
        self._set_ring0()
        self._set_segment(_SS, traps.KERNEL_DS, traps.SS_KERNEL_CACHE)
        self.engine.restore()
        self.engine.write(ux.UC_X86_REG_RFLAGS, 2 | traps.X86_EFLAGS_IF)

    def push_return(self, sp: int, address: int) -> int:
        """Store the return address of a call below `sp` (16-byte aligned); the new stack pointer."""
        pa = self.translate(sp - 8)
        if pa is None:
            raise EngineError(f"CPU {self.number}: no stack at {sp - 8:#018x}")
        self.memory.write_u64(pa, address)
        return sp - 8

    def control_registers(self) -> dict[str, int]:
        """cr0, cr2, cr3, cr4, segment selectors and bases, debug registers: what oopses print."""
        read, msr = self.engine.read, self.read_msr
        names = {"cr0": ux.UC_X86_REG_CR0, "cr2": ux.UC_X86_REG_CR2, "cr3": ux.UC_X86_REG_CR3, "cr4": ux.UC_X86_REG_CR4}
        names |= {"fs": ux.UC_X86_REG_FS, "gs": ux.UC_X86_REG_GS, "ds": ux.UC_X86_REG_DS, "es": ux.UC_X86_REG_ES}
        names |= {f"dr{i}": ux.UC_X86_REG_DR0 + i for i in (0, 1, 2, 3, 6, 7)}
        found = {name: read(number) for name, number in names.items()}
        found["fs_base"] = msr(traps.MSR_FS_BASE)
        found["gs_base"] = msr(traps.MSR_GS_BASE)
        found["kernel_gs_base"] = msr(traps.MSR_KERNEL_GS_BASE)
        return found

    def _set_ring0(self) -> None:
        self.engine.d[_HFLAGS] &= ~_HF_CPL & 0xFFFF_FFFF
        self._set_segment(_CS, traps.KERNEL_CS, traps.CS_KERNEL_CACHE)

    def _set_segment(self, at: int, selector: int, cache: tuple[int, int, int]) -> None:
        d = self.engine.d
        d[at] = selector
        d[at + 2] = d[at + 3] = 0
        d[at + 4], d[at + 5] = cache[1], cache[2]

    # -- memory as the CPU sees it -----------------------------------------------------------------------------------

    def translate(self, va: int) -> int | None:
        """Physical address of a kernel address by the page tables, None where a write would fault."""
        read = self.memory.read_u64
        table = self.root
        for shift in (39, 30, 21, 12):
            entry = read(table + (va >> shift & 511) * 8)
            if not entry & 1 or not entry & 2:
                return None
            if shift == 12 or entry & 0x80 and shift != 39:
                mask = (1 << shift) - 1
                return entry & _PFN & ~mask | va & mask
            table = entry & _PFN
        return None

    def _push(self, sp: int, words: list[int]) -> int | None:
        """Store `words` at `sp` upwards; the address that faulted, or None."""
        low = self.translate(sp)
        size = 8 * len(words)
        if (sp & 0xFFF) + size <= 0x1000:
            if low is None:
                return sp + size - 8
            self.memory.write(low, (_PACK5 if len(words) == 5 else _PACK6).pack(*words))
            return None
        for i in reversed(range(len(words))):
            pa = self.translate(sp + 8 * i)
            if pa is None:
                return sp + 8 * i
            self.memory.write_u64(pa, words[i])
        return None

    # -- exceptions --------------------------------------------------------------------------------------------------

    def raise_irq(self, number: int, ip: int | None = None) -> bool:
        """Take the interrupt with vector `number` now, between two runs; False and nothing done where it is masked.

        What is interrupted goes on at `ip`, where given. Afterwards the CPU stands at the vector's entry. EngineError
        for a vector without a gate.
        """
        if not self._idt[number * 2] >> 47 & 1:
            raise EngineError(f"CPU {self.number}: interrupt vector {number:#x} has no gate")
        if not self.interrupts_enabled:
            return False
        self.engine.save()
        if ip is not None:
            self.engine.q[_RIP] = ip
        self._deliver(number, None)
        return True

    def _on_interrupt(self, vector: int) -> None:
        engine = self.engine
        engine.save()
        d = engine.d
        soft = bool(d[self._is_int]) and vector != traps.X86_TRAP_PF
        error = None if soft or vector not in traps.HAS_ERROR_CODE else d[self._error]
        self._deliver(vector, error)

    def _deliver(self, vector: int, error: int | None) -> None:
        """Deliver from the saved state; on a fault in the middle, what SDM table 6-5 says."""
        while True:
            bad = self._try_deliver(vector, error)
            if bad is None:
                return
            if vector == traps.X86_TRAP_DF:
                raise TripleFaultError(f"CPU {self.number}: triple fault at {self.engine.q[_RIP]:#018x}")
            kind, address = bad
            self.engine.q[self._cr2] = address if kind == traps.X86_TRAP_PF else self.engine.q[self._cr2]
            serial = vector != traps.X86_TRAP_PF and not (vector in _CONTRIBUTORY and kind != traps.X86_TRAP_PF)
            vector, error = (kind, 2 if kind == traps.X86_TRAP_PF else 0) if serial else (traps.X86_TRAP_DF, 0)

    def _try_deliver(self, vector: int, error: int | None) -> tuple[int, int] | None:
        """None when done, else (vector of the fault that delivery met, its address)."""
        engine = self.engine
        q, d = engine.q, engine.d
        low = self._idt[vector * 2]
        if not low >> 47 & 1:
            return traps.X86_TRAP_NP, 0
        cpl = d[_HFLAGS] & 3
        rip, rsp = q[_RIP], q[_RSP]
        flags = engine.read(ux.UC_X86_REG_RFLAGS)
        ist = low >> 32 & 7
        if ist:
            sp = int.from_bytes(self._tss[traps.TSS_IST1 - 8 + 8 * ist : traps.TSS_IST1 + 8 * ist], "little")
        elif cpl:
            sp = int.from_bytes(self._tss[4:12], "little")
        else:
            sp = rsp
        words = [rip, d[_CS], flags, rsp, d[_SS]]
        if error is not None:
            words.insert(0, error)
        sp = ((sp & ~15) - 8 * len(words)) & _M64
        bad = self._push(sp, words)
        if bad is not None:
            return traps.X86_TRAP_PF, bad
        self.trap_count += 1
        if self.on_trap is not None:
            self.on_trap(vector, error)
        d[self._old_exception] = 0xFFFF_FFFF
        q[_RIP] = low & 0xFFFF | low >> 32 & 0xFFFF0000 | (self._idt[vector * 2 + 1] & 0xFFFF_FFFF) << 32
        q[_RSP] = sp
        q[_EFLAGS] &= ~(_DELIVERY_CLEARS | (0 if low >> 40 & 1 else traps.X86_EFLAGS_IF))
        if cpl:
            self._set_segment(_SS, 0, (0, 0, 0))
            self._set_ring0()
        engine.restore()
        return None

    def _hook_invalid(self) -> None:
        """#UD."""
        engine = self.engine

        def undefined(_uc: int, _user: int) -> bool:
            try:
                engine.save()
                self._deliver(traps.X86_TRAP_UD, None)
            except BaseException as error:  # noqa: BLE001 - carried over the C frames
                engine.stop(error)
            return True

        engine._add(UC_HOOK_INSN_INVALID, InsnInvalidCallback(undefined), 1, 0)

    def _hook_instruction(self, instruction: int, function: Callable[[], int]) -> None:
        def callback(_uc: int, _user: int) -> int:
            try:
                return function()
            except BaseException as error:  # noqa: BLE001 - carried over the C frames
                self.engine.stop(error)
                return 0

        self.engine._add(UC_HOOK_INSN, InsnCallback(callback), 1, 0, ctypes.c_int(instruction))

    def _on_syscall(self) -> int:
        """SYSCALL: RCX, R11, RIP from LSTAR, ring 0, flags masked; the stack stays."""
        engine = self.engine
        engine.save()
        q = engine.q
        flags = engine.read(ux.UC_X86_REG_RFLAGS)
        q[_RCX] = q[_RIP] + 2
        q[_R11] = flags & ~traps.X86_EFLAGS_RF
        q[_RIP] = (self._lstar - 2) & _M64  # Unicorn adds the instruction's length afterwards
        self._set_ring0()
        self._set_segment(_SS, traps.KERNEL_DS, traps.SS_KERNEL_CACHE)
        engine.restore()
        engine.write(ux.UC_X86_REG_RFLAGS, flags & ~traps.SYSCALL_MASK | 2)
        return 0

    def _on_rdtsc(self) -> int:
        now = self.clock()
        self.engine.write(ux.UC_X86_REG_RAX, now & 0xFFFF_FFFF)
        self.engine.write(ux.UC_X86_REG_RDX, now >> 32)
        return 1
