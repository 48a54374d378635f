"""The x86-64 die path, from oops_begin() to the dead task.

Mirrors arch/x86/kernel/dumpstack.c (oops_begin, __die, oops_end), arch/x86/mm/fault.c (show_fault_oops,
show_signal_msg, spurious_kernel_fault), arch/x86/kernel/traps.c (die, exc_general_protection's text,
handle_stack_overflow, exc_double_fault) and lib/bug.c. Leaves out kexec, kdump and the NMI stack.
"""

from __future__ import annotations

from capstone import CS_ARCH_X86, CS_MODE_64, Cs
from capstone.x86 import X86_OP_MEM

from arch.x86_64 import oops
from arch.x86_64.oops import PT_REGS_SIZE, Regs, SystemRegs
from arch.x86_64.unwind import Stack, call_trace, read_regs, unwind
from kernel_model.kcall import kcall
from kernel_model.mm.signals import bad_frame_line, segfault_line, trap_line
from kernel_model.oops.common import BUGFLAG_WARNING, System
from kernel_model.sched.signal import unhandled_signal
from kernel_model.sched.task import TIF_SIGPENDING, Task, TaskExit
from kernel_model.vsprintf import hash_pointer

SIGKILL, SIGSEGV = 9, 11
_TIF_NOTIFY_RESUME, _TIF_SIGPENDING, _TIF_NEED_FPU_LOAD = 1 << 0, 1 << 1, 1 << 19
_STACK_SIZE = 16 << 10
_CANONICAL_LOW, _CANONICAL_HIGH = 1 << 47, (1 << 64) - (1 << 47)


class X86Oops:
    """kcalls of the x86-64 die path."""

    def __init__(
        self, system: System, ist_stacks: list[tuple[int, int]], irq_stacks: list[tuple[int, int]] | None = None
    ) -> None:
        self._system = system
        self._irq_stacks = [Stack("IRQ", low, high) for low, high in irq_stacks or ()]
        self._ist_stacks = ist_stacks  # (lowest address, end) of each CPU's double-fault stack
        self._first: list[str] = []  # register block of the first oops, printed again at the end

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _regs(self, address: int) -> Regs:
        regs = read_regs(self._system.read_word, address)
        assert regs is not None, "pt_regs are on a mapped stack"
        return regs

    def _system_regs(self) -> SystemRegs:
        c = self._system.cpu().control_registers()
        return SystemRegs(cr0=c["cr0"], cr2=c["cr2"], cr3=c["cr3"], cr4=c["cr4"], fs_base=c["fs_base"],
                          gs_base=c["gs_base"], kernel_gs_base=c["kernel_gs_base"])

    def _all_regs(self, regs: Regs) -> list[str]:
        system = self._system
        lines = oops.all_regs(regs, self._system_regs(), system.kallsyms.symbol, system.read_code)
        if lines[1].startswith("Code: Unable") and regs.ip >> 47:
            # reading the bytes faulted: that is what CR2 holds by the time it is printed
            at = lines[1].split()[-1].rstrip(".")
            lines = [f"CR2: {int(at, 16):016x}" + line[21:] if line.startswith("CR2: ") else line for line in lines]
        return lines

    def _stacks(self, task: Task) -> list[Stack]:
        stacks = [Stack("TASK", task.stack, task.stack + _STACK_SIZE)]
        stacks += [Stack("#DF", low, high) for low, high in self._ist_stacks]
        return stacks + self._irq_stacks

    def _trace(self, regs: Regs, task: Task | None = None) -> list[str]:
        s, task = self._system, task or self._system.current()
        user_regs = task.stack_top - PT_REGS_SIZE if task.mm is not None else None
        frames = list(unwind(regs, s.read_word, s.kallsyms.is_text, s.kallsyms.function_offset, s.read_code, user_regs,
                             self._irq_stacks))
        return call_trace(regs, self._stacks(task), frames, s.read_word, s.kallsyms.is_text, s.kallsyms.return_symbol,
                          s.read_code)

    def thread_flags(self, task: Task) -> int:
        """thread_info.flags of a task that is off its CPU (6.18: include/asm-generic/thread_info_tif.h and above 15
        x86's own): its FPU registers are to be loaded; the libc of a user task has registered an rseq area, which a
        switch makes due on the way out."""
        due = _TIF_NEED_FPU_LOAD | (_TIF_NOTIFY_RESUME if task.mm is not None else 0)
        return due | (_TIF_SIGPENDING if task.view.thread_info_flags & TIF_SIGPENDING else 0)

    def task_trace(self, task: Task, frame_pointer: int, *, asleep: bool = False) -> list[str]:
        """show_stack() from a frame record on a task's stack. The code bytes of another task's user mode are not read
        (copy_code(), arch/x86/kernel/dumpstack.c): that is what `asleep` says."""
        caller = self._system.read_word(frame_pointer + 8) or 0
        lines = self._trace(Regs(ip=caller, sp=frame_pointer, bp=frame_pointer), task)
        if not asleep:
            return lines
        return [line for i, line in enumerate(lines) if not (line.startswith("Code: ") and "RIP: 0033" in lines[i - 1])]

    def _body(self, regs: Regs) -> None:
        """show_regs(): who, registers, trace."""
        s = self._system
        block = self._all_regs(regs)
        if not self._first:
            self._first = block
        s.console.print(*s.info_lines(), *block, *self._trace(regs))

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def oops_begin(self) -> int:
        """unsigned long oops_begin(void): interrupts are off here anyway."""
        return 0

    @kcall
    def show_fault_oops(self, regs: int, error_code: int, address: int) -> None:
        """void show_fault_oops(struct pt_regs *regs, unsigned long error_code, unsigned long address)"""
        s = self._system
        walk = s.init_mm.pgtable.walk(s.init_mm.memory.read_u64, s.cpu().root, address)
        s.console.print(*oops.page_fault_header(address, error_code, self._regs(regs), walk, s.current().uid))

    @kcall
    def pgtable_bad_text(self, regs: int, address: int) -> None:
        """The lines of pgtable_bad() before __die()."""
        s = self._system
        walk = s.init_mm.pgtable.walk(s.init_mm.memory.read_u64, s.cpu().root, address)
        s.console.print(f"{s.current().comm}: Corrupted page table at address {address:x}", oops.dump_pagetable(walk))

    @kcall
    def __die(self, str: int, regs: int, err: int) -> int:
        """int __die(const char *str, struct pt_regs *regs, long err): 0, no notifier stops it."""
        self._die_text(self._system.space.read_cstr(str).decode(), self._regs(regs), err)
        return 0

    def _die_text(self, text: str, regs: Regs, err: int, page_fault: bool = True) -> None:
        s = self._system
        s.die_counter += 1
        s.console.print(oops.die_header(text, err & 0xFFFFFFFF, s.die_counter))
        self._body(regs)
        s.console.print(s.modules_line())
        s.taint.add("D")

    @kcall
    def oops_end(self, flags: int, regs: int, sig: int) -> None:
        """void oops_end(unsigned long flags, struct pt_regs *regs, int signr): does not return to its caller."""
        s = self._system
        s.console.print(f"CR2: {s.cpu().control_registers()['cr2']:016x}")
        self._finish(irqs_disabled=True)

    def _finish(self, irqs_disabled: bool) -> None:
        s, task = self._system, self._system.current()
        if task.view.hardirq_context:
            self._panic("Fatal exception in interrupt")
        s.end_trace()
        s.console.print(*self._first)
        if irqs_disabled:
            s.console.print(f"note: {task.comm}[{task.pid}] exited with irqs disabled")
        raise TaskExit(SIGKILL, oops=True)

    @kcall
    def die(self, str: int, regs: int, err: int) -> None:
        """void die(const char *str, struct pt_regs *regs, long err)"""
        self._die_trap(self._system.space.read_cstr(str).decode(), self._regs(regs), err)

    def _die_trap(self, text: str, regs: Regs, err: int) -> None:
        bug = self._system.find_bug(regs.ip)
        if bug is not None and not bug[2] & BUGFLAG_WARNING:
            self._system.console.print("------------[ cut here ]------------", f"kernel BUG at {bug[0]}:{bug[1]}!")
        self._die_text(text, regs, err)
        self._finish(irqs_disabled=False)

    @kcall
    def die_gp(self, regs: int, err: int) -> None:
        """exc_general_protection()'s last words, with the address where the instruction's operand tells it."""
        r = self._regs(regs)
        address = None if err else self._operand(r)
        if address is not None and not _CANONICAL_LOW <= address < _CANONICAL_HIGH:
            address = None
        self._die_trap(oops.non_canonical_text(address), r, err)

    def _operand(self, regs: Regs) -> int | None:
        """get_kernel_gp_address(): address of the memory operand of the instruction at regs.ip."""
        code = self._system.read_code(regs.ip, 15)
        if code is None:
            return None
        decoder = Cs(CS_ARCH_X86, CS_MODE_64)
        decoder.detail = True
        for insn in decoder.disasm(code, regs.ip, 1):
            for operand in insn.operands:
                if operand.type == X86_OP_MEM:
                    base, index = (self._value(regs, insn, r) for r in (operand.mem.base, operand.mem.index))
                    return int(base + index * operand.mem.scale + operand.mem.disp) & 0xFFFF_FFFF_FFFF_FFFF
        return None

    @staticmethod
    def _value(regs: Regs, insn: object, register: int) -> int:
        name = insn.reg_name(register) if register else ""  # type: ignore[attr-defined]
        if not name:
            return 0
        if name == "rip":
            return regs.ip + len(insn.bytes)  # type: ignore[attr-defined]
        return int(getattr(regs, name if name[1:2].isdigit() else name[1:]))

    @kcall
    def report_bug(self, regs: int) -> bool:
        """enum bug_trap_type report_bug(): true where the trap was a WARN and has been reported."""
        s, r = self._system, self._regs(regs)
        bug = s.find_bug(r.ip)
        if bug is None or not bug[2] & BUGFLAG_WARNING:
            return False
        task = s.current()
        s.console.print(
            f"WARNING: CPU: {s.cpu_number()} PID: {task.pid} at {bug[0]}:{bug[1]} {s.kallsyms.symbol(r.ip)}",
            s.modules_line(), *s.info_lines(), *self._all_regs(r), *self._trace(r),
        )
        s.end_trace()
        s.taint.add("W")
        return True

    @kcall
    def in_task_stack_guard_page(self, address: int) -> bool:
        """get_stack_guard_info(): the page below the current task's stack."""
        low = self._system.current().stack
        return low - 4096 <= address < low

    @kcall
    def handle_stack_overflow(self, regs: int, fault_address: int) -> None:
        """void handle_stack_overflow(struct pt_regs *regs, unsigned long fault_address, ...)"""
        s, task = self._system, self._system.current()
        low, high = hash_pointer(task.stack), hash_pointer(task.stack + _STACK_SIZE - 1)
        s.console.print(
            f"BUG: TASK stack guard page was hit at {hash_pointer(fault_address):016x} "
            f"(stack is {low:016x}..{high:016x})"
        )
        self._die_text("stack guard page", self._regs(regs), 0)
        self._panic("Fatal exception in interrupt")

    @kcall
    def double_fault_oops(self, regs: int, err: int, cr2: int) -> None:
        """exc_double_fault(): a stack overflow where CR2 lies in the guard page, else `double fault`."""
        if self.in_task_stack_guard_page(cr2):
            self.handle_stack_overflow(regs, cr2)
        self._system.console.print("traps: PANIC: double fault, error_code: 0x0")
        self._die_text("double fault", self._regs(regs), err)
        self._panic("Machine halted.")

    def _panic(self, text: str) -> None:
        """The end of oops_end() where the kernel cannot go on."""
        s = self._system
        s.end_trace()
        s.console.print(*self._first, f"Kernel panic - not syncing: {text}", "Kernel Offset: disabled",
                        f"---[ end Kernel panic - not syncing: {text} ]---")
        raise TaskExit(SIGKILL, oops=True, panic=True)

    @kcall
    def show_signal_msg(self, regs: int, error_code: int, address: int) -> None:
        """show_signal_msg(): the `segfault at` line and the code bytes of user mode."""
        s, r = self._system, self._regs(regs)
        task = s.current()
        if task.mm is None or not unhandled_signal(task, SIGSEGV):
            return
        s.console.print(
            segfault_line(task.mm, task.comm, task.pid, address, r.ip, r.sp, error_code, s.cpu_number()),
            oops.opcodes(r, s.read_code),
        )

    @kcall
    def show_signal(self, regs: int, sig: int, what: int, err: int) -> None:
        """show_signal(): `traps: touch[61] trap invalid opcode ip:...`; `what` is type and description."""
        s, r = self._system, self._regs(regs)
        task = s.current()
        if task.mm is not None and unhandled_signal(task, sig):
            text, error = s.space.read_cstr(what).decode(), err & 0xFFFF_FFFF_FFFF_FFFF
            s.console.print(trap_line(task.mm, task.comm, task.pid, text, r.ip, r.sp, error))

    @kcall
    def signal_fault_text(self, regs: int, frame: int) -> None:
        """signal_fault(): a program's rt_sigreturn() finds no frame that it can go back through."""
        s, r = self._system, self._regs(regs)
        task = s.current()
        if task.mm is not None:
            hashed = hash_pointer(frame)
            s.console.print(bad_frame_line(task.mm, task.comm, task.pid, hashed, r.ip, r.sp, r.orig_ax))
