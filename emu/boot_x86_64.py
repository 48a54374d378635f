"""What the boot code of an x86-64 kernel sets up for each CPU: descriptor tables, stacks for double faults, MSRs.

Mirrors arch/x86/kernel/cpu/common.c (cpu_init, cpu_init_exception_handling, syscall_init) and idt.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from arch.x86_64 import abi, traps
from emu.copy_thread import copy_thread
from emu.machine import NR_CPUS
from kernel_model.mm.vmalloc import THREAD_SIZE
from kernel_model.oops.x86_64 import X86Oops

if TYPE_CHECKING:
    from emu.start_kernel import KernelParts
    from kernel_model.sched.task import Task

HARDWARE = "QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-debian-1.16.2-1 04/01/2014"
_IST_SIZE = 8192


class ArchBoot:
    """CPU set-up and task switches of one kernel."""

    def __init__(self, kernel: KernelParts) -> None:
        self._kernel = kernel
        self._tss: list[int] = []
        self.ist_stacks: list[tuple[int, int]] = []

    def setup_cpu(self, number: int, percpu_offset: int) -> None:
        """Tables in guest memory, then the CPU's registers."""
        k = self._kernel
        cpu = k.machine.cpus[number]
        page = k.slab.kzalloc(4096, "gdt, tss")
        idt = k.slab.kzalloc(4096, "idt")
        tss = page + 0x100
        stack = k.vmalloc.vmalloc(_IST_SIZE, f"#DF stack of CPU {number}")
        self.ist_stacks.append((stack, stack + _IST_SIZE))
        k.space.write(page, traps.gdt(tss))
        k.space.write_u64(tss + traps.TSS_IST1, stack + _IST_SIZE)
        for vector, name, dpl, ist in traps.IDT_ENTRIES:
            k.space.write(idt + 16 * vector, traps.gate(k.machine.symbol(name), dpl, ist))
        self._tss.append(tss)
        cpu.reset(k.init_mm.pgd, page, idt, tss, percpu_offset, k.machine.symbol("entry_SYSCALL_64"))

    def switch_to(self, number: int, task: Task) -> None:
        """__switch_to(): stacks that the CPU takes on entry, and the address space."""
        k = self._kernel
        k.space.write(self._tss[number] + traps.TSS_SP0, struct.pack("<Q", task.stack_top))
        k.machine.cpus[number].set_root(task.mm.pgd if task.mm is not None else k.init_mm.pgd)

    def start_kthread(self, cpu: Any, stack_top: int, function: int, argument: int) -> None:
        """copy_thread() of a kernel thread: its first instruction is ret_from_fork_asm."""
        cpu.enter_kernel(self._kernel.machine.symbol("ret_from_fork_asm"), stack_top, rbx=function, r12=argument)

    def copy_thread(self, child: Task, regs: int, newsp: int) -> None:
        """copy_thread(): `child` goes to user mode with a copy of the registers at `regs`, result 0, own stack."""
        copy_thread(self._kernel, child, regs, newsp, abi.RESULT_MEMBER, abi.STACK_MEMBER, "ret_from_fork_asm")

    def oops(self) -> X86Oops:
        """The die path's kcalls."""
        first = self._kernel.machine.symbol("irq_stacks")
        irq_stacks = [(low, low + THREAD_SIZE) for low in range(first, first + NR_CPUS * THREAD_SIZE, THREAD_SIZE)]
        return X86Oops(self._kernel.system, self.ist_stacks, irq_stacks)
