"""The arm64 die path, from die_kernel_fault() to the dead task.

Mirrors arch/arm64/mm/fault.c (die_kernel_fault, show_pte), arch/arm64/kernel/traps.c (die, dump_kernel_instr,
bug_brk_handler, panic_bad_stack), entry-common.c (__panic_unhandled) and lib/bug.c. Leaves out kexec, the frames of
panic() itself (they run outside the guest), and the splat around the spurious-fault warning.
"""

from __future__ import annotations

from collections.abc import Callable

from arch.arm64 import oops
from arch.arm64.oops import Regs
from arch.arm64.unwind import Frame, read_regs, unwind
from arch.interface import Walk
from kernel_model.kcall import kcall
from kernel_model.oops.common import BUGFLAG_WARNING, System
from kernel_model.sched.task import TIF_SIGPENDING, Task, TaskExit

SIGKILL = 9
_TIF_SIGPENDING, _TIF_NOTIFY_RESUME, _TIF_FOREIGN_FPSTATE = 1 << 0, 1 << 3, 1 << 4
PT_REGS_STACKFRAME = 296  # offsetof(struct pt_regs, stackframe)
_STACK_SIZE = 16 << 10
_PAGE_OFFSET = 0xFFFF_0000_0000_0000
_CUT_HERE = "------------[ cut here ]------------"


class Arm64Oops:
    """kcalls of the arm64 die path. `irq_stack` and `overflow_stack` give a CPU's (lowest address, end)."""

    def __init__(
        self,
        system: System,
        irq_stack: Callable[[int], tuple[int, int]],
        overflow_stack: Callable[[int], tuple[int, int]],
    ) -> None:
        self._system = system
        self._irq_stack = irq_stack
        self._overflow_stack = overflow_stack

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _regs(self, address: int) -> Regs:
        regs = read_regs(self._system.read_word, address)
        assert regs is not None, "pt_regs are on a mapped stack"
        return regs

    def _read_insn(self, address: int) -> int | None:
        code = self._system.read_code(address, 4)
        return None if code is None else int.from_bytes(code, "little")

    def _stack_of(self, address: int, task: Task | None = None) -> tuple[int, int] | None:
        """The stack of the task (the current one) or of the CPU that `address` lies in."""
        stack, cpu = (task or self._system.current()).stack, self._system.cpu_number()
        stacks = (stack, stack + _STACK_SIZE), self._irq_stack(cpu), self._overflow_stack(cpu)
        return next((s for s in stacks if s[0] <= address < s[1]), None)

    def _entry(self, frame: Frame) -> str:
        kallsyms = self._system.kallsyms
        if frame.flags:  # a saved pc, exact
            return f" {kallsyms.symbol(frame.address)} ({frame.flags})"
        return f" {kallsyms.return_symbol(frame.address)}"

    def _trace(self, regs: Regs) -> list[str]:
        frames = unwind(regs, self._system.read_word, self._stack_of, PT_REGS_STACKFRAME)
        return ["Call trace:", *map(self._entry, frames)]

    def thread_flags(self, task: Task) -> int:
        """thread_info.flags of a task that is off its CPU (6.18): the FP registers are not a kernel thread's; the
        libc of a user task has registered an rseq area, which a switch makes due on the way out."""
        due = _TIF_NOTIFY_RESUME if task.mm is not None else _TIF_FOREIGN_FPSTATE
        return due | (_TIF_SIGPENDING if task.view.thread_info_flags & TIF_SIGPENDING else 0)

    def task_trace(self, task: Task, frame_pointer: int, *, asleep: bool = False) -> list[str]:
        """show_stack() from a frame record on a task's stack: the first entry is marked (C) for the task that asks, (T)
        for one that is asleep."""
        s = self._system
        regs = Regs(pc=s.read_word(frame_pointer + 8) or 0)
        regs.x[29] = s.read_word(frame_pointer) or 0
        frames = list(unwind(regs, s.read_word, lambda at: self._stack_of(at, task), PT_REGS_STACKFRAME))
        frames[0] = Frame(frames[0].address, "T" if asleep else "C")
        return ["Call trace:", *map(self._entry, frames)]

    def _registers(self, regs: Regs) -> list[str]:
        """__show_regs(), with who it is above."""
        s = self._system
        return [*s.info_lines(), *oops.show_regs(regs, s.kallsyms.symbol)]

    def _die(self, text: str, regs: Regs, err: int) -> None:
        """__die(): header, registers, trace, code words; nothing after it but the end marker."""
        s = self._system
        s.die_counter += 1
        s.console.print(oops.die_header(text, err, s.die_counter), s.modules_line())
        s.console.print(*self._registers(regs), *self._trace(regs))
        if not regs.user_mode and regs.pc >= _PAGE_OFFSET:
            s.console.print(oops.dump_kernel_instr(regs.pc, self._read_insn))
        s.taint.add("D")
        s.end_trace()
        if s.current().view.hardirq_context:
            self._panic(f"{text}: Fatal exception in interrupt")

    def _make_task_dead(self, *notes: str) -> None:
        task = self._system.current()
        self._system.console.print(*(f"note: {task.comm}[{task.pid}] exited with {note}" for note in notes))
        raise TaskExit(SIGKILL, oops=True)

    def _walk(self, address: int) -> tuple[Walk | None, int, bool]:
        """show_pte()'s choice: the walk, the root's physical address, whether it is the kernel's."""
        init_mm, task = self._system.init_mm, self._system.current()
        mm = task.mm or task.active_mm
        if address >= _PAGE_OFFSET:
            return init_mm.walk(address), init_mm.pgd, True
        if mm is None or address >= init_mm.layout.task_size:
            return None, 0, False
        return mm.tree.walk(address), mm.pgd, False

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def die_kernel_fault(self, msg: int, addr: int, esr: int, regs: int) -> None:
        """static void die_kernel_fault(const char *msg, unsigned long addr, unsigned long esr, struct pt_regs *regs)"""
        self._kernel_fault(self._system.space.read_cstr(msg).decode(), addr, esr, regs)

    def _kernel_fault(self, message: str, addr: int, esr: int, regs: int) -> None:
        walk, pgdp, kernel = self._walk(addr)
        self._system.console.print(*oops.fault_header(message, addr, esr, walk, pgdp, kernel))
        self._die("Oops", self._regs(regs), esr)
        self._make_task_dead()

    @kcall
    def arm64_notify_die(self, regs: int, far: int, esr: int) -> None:
        """do_mem_abort()'s end for faults of the kernel that nothing handles: an oops by the fault's name."""
        self._kernel_fault(oops.fault_name(esr), far, esr, regs)

    @kcall
    def spurious_translation_fault(self, addr: int) -> None:
        """The text of __do_kernel_fault()'s WARN_RATELIMIT."""
        self._system.console.print(f"Ignoring spurious kernel translation fault at virtual address {addr:016x}")

    @kcall
    def die(self, str: int, regs: int, err: int) -> None:
        """void die(const char *str, struct pt_regs *regs, long err)"""
        text = self._system.space.read_cstr(str).decode()
        self._die(text, self._regs(regs), err & 0xFFFF_FFFF_FFFF_FFFF)
        if text in ("Oops - BUG", "Oops - BRK"):  # brk is a debug exception: interrupts off, preemption counted
            self._make_task_dead("irqs disabled", "preempt_count 1")
        self._make_task_dead()

    @kcall
    def report_bug(self, regs: int) -> bool:
        """enum bug_trap_type report_bug(): true where the trap was a WARN and has been reported."""
        s, r = self._system, self._regs(regs)
        bug = s.find_bug(r.pc)
        if bug is None:
            return False
        file, line, flags = bug
        if not flags & BUGFLAG_WARNING:
            s.console.print(_CUT_HERE, f"kernel BUG at {file}:{line}!")
            return False
        task = s.current()
        s.console.print(
            f"WARNING: CPU: {s.cpu_number()} PID: {task.pid} at {file}:{line} {s.kallsyms.symbol(r.pc)}",
            s.modules_line(),
            *self._registers(r),
            *self._trace(r),
        )
        s.end_trace()
        s.taint.add("W")
        return True

    @kcall
    def panic_bad_stack(self, regs: int, esr: int, far: int) -> None:
        """void panic_bad_stack(struct pt_regs *regs, unsigned long esr, unsigned long far): the stack ran over."""
        s, r = self._system, self._regs(regs)
        cpu, stack = s.cpu_number(), s.current().stack
        name = oops.EC_NAMES.get(esr >> 26 & 0x3F, oops.UNRECOGNIZED_EC)
        irq, overflow = self._irq_stack(cpu), self._overflow_stack(cpu)
        s.console.print(
            "Insufficient stack space to handle exception!",
            f"ESR: 0x{esr:016x} -- {name}",
            f"FAR: 0x{far:016x}",
            f"Task stack:     [0x{stack:016x}..0x{stack + _STACK_SIZE:016x}]",
            f"IRQ stack:      [0x{irq[0]:016x}..0x{irq[1]:016x}]",
            f"Overflow stack: [0x{overflow[0]:016x}..0x{overflow[1]:016x}]",
            *self._registers(r),
        )
        self._panic("kernel stack overflow", r)

    @kcall
    def panic_unhandled(self, regs: int, vector: int, esr: int) -> None:
        """static void __panic_unhandled(struct pt_regs *regs, const char *vector, unsigned long esr)"""
        s, r = self._system, self._regs(regs)
        name = oops.EC_NAMES.get(esr >> 26 & 0x3F, oops.UNRECOGNIZED_EC)
        text = s.space.read_cstr(vector).decode()
        s.console.print(f"Unhandled {text} exception on CPU{s.cpu_number()}, ESR 0x{esr:016x} -- {name}")
        s.console.print(*self._registers(r))
        self._panic("Unhandled exception", r)

    def _panic(self, text: str, regs: Regs | None = None) -> None:
        """panic(): where an oops has been printed already (no `regs`) it does not show a stack again."""
        s = self._system
        s.console.print(f"Kernel panic - not syncing: {text}")
        if regs is not None:
            s.console.print(*s.info_lines(), *self._trace(regs))
        s.console.print("SMP: stopping secondary CPUs", "Kernel Offset: disabled", "Memory Limit: none")
        s.console.print(f"---[ end Kernel panic - not syncing: {text} ]---")
        raise TaskExit(SIGKILL, oops=True, panic=True)

    @kcall
    def unknown_ipi(self, ipinr: int) -> None:
        """The line of arch/arm64/kernel/smp.c:do_handle_IPI() about an IPI that it does not know."""
        self._system.console.print(f"CPU{self._system.cpu_number()}: Unknown IPI message 0x{ipinr:x}")
