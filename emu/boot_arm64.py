"""What the boot code of an arm64 kernel sets up for each CPU: the MMU, vectors, the per-CPU offset, stacks.

Mirrors arch/arm64/kernel/head.S (__primary_switched), mm/proc.S (__cpu_setup), kernel/irq.c (init_irq_stacks) and
kernel/process.c (__switch_to). TTBR0 points to an empty table where no user space is active (reserved_pg_dir).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arch.arm64 import abi
from emu.copy_thread import copy_thread
from kernel_model.mm.vmalloc import THREAD_SIZE
from kernel_model.oops.arm64 import Arm64Oops

if TYPE_CHECKING:
    from emu.start_kernel import KernelParts
    from kernel_model.sched.task import Task

HARDWARE = "linux,dummy-virt (DT)"
OVERFLOW_STACK_SIZE = 4096


class ArchBoot:
    """CPU set-up and task switches of one kernel."""

    def __init__(self, kernel: KernelParts) -> None:
        self._kernel = kernel
        self._percpu: list[int] = []
        self._irq_stacks: list[int] = []
        self._reserved_pg_dir = kernel.init_mm.pages.alloc_pages(0, "reserved_pg_dir", zero=True) << 12

    def setup_cpu(self, number: int, percpu_offset: int) -> None:
        """Registers of the CPU, and its interrupt stack."""
        k = self._kernel
        self._percpu.append(percpu_offset)
        self._irq_stacks.append(k.vmalloc.alloc_thread_stack(f"IRQ stack of CPU {number}"))
        k.space.write_u64(k.percpu("irq_stack_ptr", number), self._irq_stacks[number])
        vectors = k.machine.symbol("vectors")
        k.machine.cpus[number].reset(self._reserved_pg_dir, k.init_mm.pgd, vectors, percpu_offset)

    def switch_to(self, number: int, task: Task) -> None:
        """__switch_to(): the stack that the CPU takes on entry from user mode, and the address space."""
        k = self._kernel
        cpu = k.machine.cpus[number]
        cpu.set_kernel_stack(task.stack_top)
        cpu.set_root(task.mm.pgd if task.mm is not None else self._reserved_pg_dir)

    def _irq_stack(self, cpu: int) -> tuple[int, int]:
        return self._irq_stacks[cpu], self._irq_stacks[cpu] + THREAD_SIZE

    def _overflow_stack(self, cpu: int) -> tuple[int, int]:
        low = (self._kernel.machine.symbol("overflow_stack") + self._percpu[cpu]) & 0xFFFF_FFFF_FFFF_FFFF
        return low, low + OVERFLOW_STACK_SIZE

    def start_kthread(self, cpu: Any, stack_top: int, function: int, argument: int) -> None:
        """copy_thread() of a kernel thread: its first instruction is ret_from_fork."""
        cpu.enter_kernel(self._kernel.machine.symbol("ret_from_fork"), stack_top, x19=function, x20=argument)

    def copy_thread(self, child: Task, regs: int, newsp: int) -> None:
        """copy_thread(): `child` goes to user mode with a copy of the registers at `regs`, result 0, own stack."""
        copy_thread(self._kernel, child, regs, newsp, abi.RESULT_MEMBER, abi.STACK_MEMBER, "ret_from_fork")

    def oops(self) -> Arm64Oops:
        """The die path's kcalls."""
        return Arm64Oops(self._kernel.system, self._irq_stack, self._overflow_stack)
