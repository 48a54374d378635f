"""What the vCPUs have of each other: interrupts between them, and whose translations each of them caches.

Mirrors, with guest arch/x86/mm/tlb.c and smp.c, the part of the local APIC that sends, and lazy TLB mode: a CPU whose
task has blocked keeps the address space, and flushes when a task of it goes on where the generation has moved. On
arm64 one instruction reaches all CPUs.
"""

from __future__ import annotations

from collections.abc import Callable

from emu.machine import Machine
from kernel_model.kcall import kcall
from kernel_model.mm.vma import MmRegistry
from kernel_model.sched.task import Task


class Smp:
    """kcalls of one machine's CPUs. `here[n]` is the task whose address space CPU n has loaded."""

    def __init__(
        self, machine: Machine, mms: MmRegistry, here: list[Task | None], idle: Callable[[int], bool],
        interrupt: Callable[[int, int], None],
    ) -> None:
        self._machine = machine
        self._mms = mms
        self._here = here
        self._idle = idle
        self._interrupt = interrupt
        self._seen = [0] * len(machine.cpus)  # generation of the address space that each CPU's TLB knows at least

    # -- lazy TLB mode -----------------------------------------------------------------------------------------------

    def loaded(self, cpu: int) -> None:
        """CPU `cpu` has loaded the address space of its task, with an empty TLB."""
        task = self._here[cpu]
        self._seen[cpu] = task.mm.tlb_gen if task is not None and task.mm is not None else 0

    def unlazy(self, cpu: int) -> None:
        """A task goes on that its CPU idled after: switch_mm_irqs_off() to the address space that is there."""
        task = self._here[cpu]
        if task is not None and task.mm is not None and task.mm.tlb_gen != self._seen[cpu]:
            self._seen[cpu] = task.mm.tlb_gen
            self._machine.cpus[cpu].flush_tlb()

    # -- kcalls ------------------------------------------------------------------------------------------------------

    @kcall
    def inc_mm_tlb_gen(self, mm: int) -> int:
        """u64 inc_mm_tlb_gen(struct mm_struct *mm): the new generation."""
        known = self._mms.mms[mm]
        known.tlb_gen += 1
        return known.tlb_gen

    @kcall
    def mm_cpumask(self, mm: int) -> int:
        """mm_cpumask(): a bit for each CPU that has the address space loaded, lazily or not."""
        return sum(1 << n for n, task in enumerate(self._here)
                   if task is not None and task.mm is not None and task.mm.addr == mm)

    @kcall
    def tlb_is_lazy(self, cpu: int) -> bool:
        """cpu_tlbstate_shared.is_lazy of a CPU."""
        return self._idle(cpu)

    @kcall
    def native_send_call_func_single_ipi(self, cpu: int) -> None:
        """void native_send_call_func_single_ipi(int cpu): it is taken when that CPU moves and lets interrupts in."""
        self._interrupt(cpu, self._machine.cpus[cpu].CALL_IRQ)

    def smp_send_reschedule(self, cpu: int) -> None:
        """Let another CPU than the one that executes enter the kernel; it looks for work on its way back."""
        if cpu != self._machine.current_cpu:
            self._interrupt(cpu, self._machine.cpus[cpu].RESCHEDULE_IRQ)

    @kcall
    def tlbi_broadcast(self, start: int, end: int) -> None:
        """TLBI VAE1IS for [start, end) and DSB ISH: no CPU has translations of it afterwards."""
        self._machine.flush_tlb_kernel_range(start, end)
