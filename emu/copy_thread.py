"""copy_thread(): the first registers of a task that was made by clone().

Mirrors arch/*/kernel/process.c:copy_thread() for user tasks; kernel threads are started by ArchBoot.start_kthread().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu.start_kernel import KernelParts
    from kernel_model.sched.task import Task


def copy_thread(kernel: KernelParts, child: Task, regs: int, newsp: int, result: str, sp: str, first_text: str) -> None:
    """Put a copy of the struct pt_regs at `regs` on top of the child's stack, and let the child begin at `first_text`.

    `result` and `sp` name the members that hold a system call's result and the user stack pointer.
    """
    size = kernel.types.sizeof("pt_regs")
    there = child.stack_top - size
    kernel.space.write(there, kernel.space.read(regs, size))
    kernel.space.write_u64(there + kernel.types.offsetof("pt_regs", result), 0)
    if newsp:
        kernel.space.write_u64(there + kernel.types.offsetof("pt_regs", sp), newsp)
    entry = kernel.machine.symbol(first_text)

    def first(cpu: Any) -> None:
        cpu.enter_kernel(entry, there)

    child.start = first
