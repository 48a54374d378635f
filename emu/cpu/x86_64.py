"""An x86-64 vCPU: long mode, and exceptions delivered as the hardware does.

Mirrors Intel SDM vol. 3A chapter 6: gate, stack switch by TSS and IST, frame, error code, #PF while delivering, #DF,
triple fault; and SYSCALL (vol. 2B). Leaves out segment limits, call gates, alignment checks, TF single steps and
#SS for non-canonical stack accesses (they are #GP).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence

from unicorn import UC_ARCH_X86, UC_HOOK_INSN, UC_HOOK_INSN_INVALID, UC_HOOK_MEM_INVALID, UC_MODE_64
from unicorn import x86_const as ux

from arch.x86_64 import traps
from emu.cpu.engine import Engine, EngineError, InsnCallback, InsnInvalidCallback, MemCallback
from emu.cpu.interface import TrapRecord
from kernel_model.memory import GuestMemory

_M64 = 0xFFFF_FFFF_FFFF_FFFF
_PFN = 0x000F_FFFF_FFFF_F000

# words of CPUX86State (QEMU 5.0 target/i386/cpu.h): regs[16], eip, eflags, 4 lazy-flag words, hflags, segs[6]
_RAX, _RCX, _RDX, _RBX, _RSP, _RBP, _RSI, _RDI, _R8, _R9, _R10, _R11 = range(12)
_RIP, _EFLAGS = 16, 17  # 64-bit words
_HFLAGS = 176 // 4  # 32-bit words from here on
_CS, _SS = (184 + 24) // 4, (184 + 48) // 4  # selector; base at +2 (64 bit), limit +4, flags +5
_HF_CPL = 3

EFLAGS_TF, EFLAGS_IF, EFLAGS_NT, EFLAGS_RF, EFLAGS_VM, EFLAGS_AC = 0x100, 0x200, 0x4000, 0x10000, 0x20000, 0x40000
_DELIVERY_CLEARS = EFLAGS_TF | EFLAGS_NT | EFLAGS_RF | EFLAGS_VM

MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_SFMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084
MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE = 0xC0000100, 0xC0000101, 0xC0000102
EFER = 0xD01  # SCE LME LMA NXE
# what syscall_init() masks: CF PF AF ZF SF TF IF DF OF IOPL NT RF AC ID
SYSCALL_MASK = 0x257FD5
CR0 = 0x80050033
# PSE PAE MCE PGE OSFXSR OSXMMEXCPT SMEP SMAP
CR4 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 20 | 1 << 21
_PACK5, _PACK6 = struct.Struct("<5Q"), struct.Struct("<6Q")
_ARG_REGS = (_RDI, _RSI, _RDX, _RCX, _R8, _R9)


class X86Cpu:
    """One vCPU. `clock` gives what rdtsc reads."""

    def __init__(self, index: int, memory: GuestMemory) -> None:
        self.index = index
        self.memory = memory
        self.engine = engine = Engine(UC_ARCH_X86, UC_MODE_64, ux.UC_CPU_X86_SKYLAKE_CLIENT, memory)
        self.traps = 0
        self.trace: list[TrapRecord] | None = None
        self.clock: Callable[[], int] = lambda: 0
        self.kernel_root = 0
        self._idt = memory.view(memory.base, 4096).cast("Q")
        self._tss = memory.view(memory.base, 104)
        self._locate()
        engine.hook_interrupts(self._on_interrupt)
        self._hook_invalid()
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

    def enable_mmu(self, root: int, *, smep: bool = True, smap: bool = True) -> None:
        """Long mode with paging from the page table at physical `root`."""
        engine, uc = self.engine, self.engine.uc
        self.kernel_root = root
        self.write_msr(MSR_EFER, EFER)
        engine.write(ux.UC_X86_REG_CR3, root)
        engine.write(ux.UC_X86_REG_CR4, CR4 & ~(0 if smep else 1 << 20) & ~(0 if smap else 1 << 21))
        uc.reg_write(ux.UC_X86_REG_CR0, CR0)

    def load_tables(self, gdt: int, gdt_limit: int, idt: int, tss: int, translate: Callable[[int], int]) -> None:
        """LGDT, LIDT and LTR with kernel virtual addresses; IDT and TSS must not move afterwards."""
        uc = self.engine.uc
        uc.reg_write(ux.UC_X86_REG_GDTR, (0, gdt, gdt_limit, 0))
        uc.reg_write(ux.UC_X86_REG_IDTR, (0, idt, 0xFFF, 0))
        uc.reg_write(ux.UC_X86_REG_TR, (traps.GDT_ENTRY_TSS << 3, tss, traps.TSS_SIZE - 1, 0x8B00))
        self._idt = self.memory.view(translate(idt), 4096).cast("Q")
        self._tss = self.memory.view(translate(tss), 104)

    def write_msr(self, number: int, value: int) -> None:
        """WRMSR."""
        self.engine.uc.reg_write(ux.UC_X86_REG_MSR, (number, value))

    def read_msr(self, number: int) -> int:
        """RDMSR."""
        value: int = self.engine.uc.reg_read(ux.UC_X86_REG_MSR, number)
        return value

    def set_rsp0(self, top: int) -> None:
        """TSS.RSP0: the stack that exceptions from user mode use."""
        self._tss[4:12] = top.to_bytes(8, "little")

    def set_user_root(self, root: int) -> None:
        """Write CR3; flushes the TLB."""
        self.engine.write(ux.UC_X86_REG_CR3, root)
        self.engine.flush_tlb()

    # -- registers and running ---------------------------------------------------------------------------------------

    def run(self, pc: int, count: int = 0) -> None:
        """Run from `pc` until the engine is stopped (see Engine.start)."""
        self.engine.start(pc, count)

    def pc(self) -> int:
        """RIP."""
        return self.engine.read(ux.UC_X86_REG_RIP)

    def sp(self) -> int:
        """RSP."""
        return self.engine.read(ux.UC_X86_REG_RSP)

    def result(self) -> int:
        """RAX."""
        return self.engine.read(ux.UC_X86_REG_RAX)

    def enter_kernel(self, pc: int, sp: int, args: Sequence[int] = ()) -> None:
        """Ring 0 at `pc` with stack `sp`, other registers zero, arguments by the C convention."""
        engine = self.engine
        engine.save()
        q = engine.q
        for i in range(16):
            q[i] = 0
        for register, value in zip(_ARG_REGS, args, strict=False):
            q[register] = value & _M64
        q[_RSP], q[_RIP] = sp, pc
        self._set_ring0(engine.d)
        self._set_segment(_SS, traps.KERNEL_DS, 0xFFFF_FFFF, traps.KERNEL_DS_FLAGS)
        engine.restore()
        engine.write(ux.UC_X86_REG_RFLAGS, 0x202)

    def enter_call(self, function: int, args: Sequence[int], return_address: int) -> None:
        """Arguments in registers, return address on the current stack, aligned as the ABI wants."""
        engine = self.engine
        engine.save()
        q = engine.q
        sp = (q[_RSP] & ~15) - 8
        pa = self.translate(sp)
        if pa is None:
            raise EngineError(f"cpu{self.index}: no stack at {sp:#018x} for a call of {function:#018x}")
        self.memory.write_u64(pa, return_address)
        for register, value in zip(_ARG_REGS, args, strict=False):
            q[register] = value & _M64
        q[_RSP], q[_RIP] = sp, function
        engine.restore()

    def system_registers(self) -> dict[str, int]:
        """cr0, cr2, cr3, cr4, the segment bases and selectors, debug registers."""
        read = self.engine.read
        names = {"cr0": ux.UC_X86_REG_CR0, "cr2": ux.UC_X86_REG_CR2, "cr3": ux.UC_X86_REG_CR3, "cr4": ux.UC_X86_REG_CR4}
        names |= {"fs": ux.UC_X86_REG_FS, "gs": ux.UC_X86_REG_GS, "ds": ux.UC_X86_REG_DS, "es": ux.UC_X86_REG_ES}
        names |= {f"dr{i}": ux.UC_X86_REG_DR0 + i for i in (0, 1, 2, 3, 6, 7)}
        found = {name: read(number) for name, number in names.items()}
        found["fs_base"] = self.read_msr(MSR_FS_BASE)
        found["gs_base"] = self.read_msr(MSR_GS_BASE)
        found["kernel_gs_base"] = self.read_msr(MSR_KERNEL_GS_BASE)
        return found

    def _set_ring0(self, d: memoryview) -> None:
        d[_HFLAGS] &= ~_HF_CPL & 0xFFFF_FFFF
        self._set_segment(_CS, traps.KERNEL_CS, 0xFFFF_FFFF, traps.KERNEL_CS_FLAGS)

    def _set_segment(self, at: int, selector: int, limit: int, flags: int) -> None:
        d = self.engine.d
        d[at] = selector
        d[at + 2] = d[at + 3] = 0
        d[at + 4] = limit
        d[at + 5] = flags

    # -- memory as the CPU sees it -----------------------------------------------------------------------------------

    def translate(self, va: int) -> int | None:
        """Physical address of a kernel address by the page tables, None where a write would fault."""
        read = self.memory.read_u64
        table = self.kernel_root
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

    def _on_interrupt(self, vector: int) -> None:
        engine = self.engine
        engine.save()
        d = engine.d
        soft = bool(d[self._is_int]) and vector != traps.X86_TRAP_PF
        error = None if soft or vector not in traps.ERROR_CODE_VECTORS else d[self._error]
        self._deliver(vector, error)

    def _deliver(self, vector: int, error: int | None) -> None:
        """Deliver from the saved state; on a fault in the middle, what SDM table 6-5 says."""
        while True:
            bad = self._try_deliver(vector, error)
            if bad is None:
                return
            if vector == traps.X86_TRAP_DF:
                raise EngineError(f"cpu{self.index}: triple fault at {self.engine.q[_RIP]:#018x}")
            kind, address = bad
            self.engine.q[self._cr2] = address if kind == traps.X86_TRAP_PF else self.engine.q[self._cr2]
            serial = vector != traps.X86_TRAP_PF and not (vector in traps.CONTRIBUTORY and kind != traps.X86_TRAP_PF)
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
            sp = int.from_bytes(self._tss[28 + 8 * ist : 36 + 8 * ist], "little")
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
        self.traps += 1
        if self.trace is not None:
            address = q[self._cr2] if vector == traps.X86_TRAP_PF else 0
            self.trace.append(TrapRecord(self.index, vector, error or 0, address, rip, cpl == 3))
        d[self._old_exception] = 0xFFFF_FFFF
        q[_RIP] = low & 0xFFFF | low >> 32 & 0xFFFF0000 | (self._idt[vector * 2 + 1] & 0xFFFF_FFFF) << 32
        q[_RSP] = sp
        q[_EFLAGS] &= ~(_DELIVERY_CLEARS | (0 if low >> 40 & 1 else EFLAGS_IF))
        if cpl:
            self._set_segment(_SS, 0, 0, 0)
            self._set_ring0(d)
        engine.restore()
        return None

    def _hook_invalid(self) -> None:
        """#UD, and accesses that page tables send outside RAM."""
        engine = self.engine

        def undefined(_uc: int, _user: int) -> bool:
            try:
                engine.save()
                self._deliver(traps.X86_TRAP_UD, None)
            except BaseException as error:  # noqa: BLE001 - carried over the C frames
                engine.stop(error)
            return True

        def outside(_uc: int, _kind: int, address: int, _size: int, _value: int, _user: int) -> bool:
            engine.stop(EngineError(f"cpu{self.index}: access to physical {address:#x}, which is no RAM"))
            return False

        engine._add(UC_HOOK_INSN_INVALID, InsnInvalidCallback(undefined), 1, 0)
        engine._add(UC_HOOK_MEM_INVALID, MemCallback(outside), 1, 0)

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
        q[_R11] = flags & ~EFLAGS_RF
        q[_RIP] = (self.lstar - 2) & _M64  # Unicorn adds the instruction's length afterwards
        self._set_ring0(engine.d)
        self._set_segment(_SS, traps.KERNEL_DS, 0xFFFF_FFFF, traps.KERNEL_DS_FLAGS)
        engine.restore()
        engine.write(ux.UC_X86_REG_RFLAGS, flags & ~SYSCALL_MASK | 2)
        return 0

    lstar = 0

    def set_syscall_entry(self, address: int) -> None:
        """syscall_init(): STAR, LSTAR, SFMASK."""
        self.lstar = address
        self.write_msr(MSR_STAR, traps.USER32_CS << 48 | traps.KERNEL_CS << 32)
        self.write_msr(MSR_LSTAR, address)
        self.write_msr(MSR_SFMASK, SYSCALL_MASK)

    def _on_rdtsc(self) -> int:
        now = self.clock()
        self.engine.write(ux.UC_X86_REG_RAX, now & 0xFFFF_FFFF)
        self.engine.write(ux.UC_X86_REG_RDX, now >> 32)
        return 1
