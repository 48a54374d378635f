"""The parts of one kernel, and the order in which they come up.

Mirrors start_kernel() of init/main.c: memory, page tables, per-CPU areas, exception tables, then tasks; last the
kernel's text is bound to the Python methods that it calls.
"""

from __future__ import annotations

import importlib

import arch as arches
from arch.interface import Prot
from emu.image_files import kernel_image, user_image
from emu.kthreads import Kthreads
from emu.machine import NR_CPUS, Machine
from emu.processes import Processes
from kernel_model import profiles
from kernel_model.bpf.attach import Attachments
from kernel_model.bpf.core import Bpf
from kernel_model.bpf.prog import ProgLoader
from kernel_model.console import Console
from kernel_model.errors import KemuError
from kernel_model.golden import Golden
from kernel_model.irq_work import DeferredWork
from kernel_model.kallsyms import Kallsyms
from kernel_model.kcall import bind, collect, kcall
from kernel_model.locking.lockdep import Lockdep
from kernel_model.memory import GuestMemory
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.kcalls import MmKcalls
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmRegistry
from kernel_model.mm.vmalloc import Vmalloc
from kernel_model.oops.common import System
from kernel_model.output import Output
from kernel_model.panic import Taint
from kernel_model.profiles import Profile
from kernel_model.sched.hung_task import HungTasks
from kernel_model.sched.rcu import Rcu
from kernel_model.sysrq import Sysrq
from kernel_model.types import Btf, Types

RAM_SIZE = 256 << 20
PAGE = 4096
# enum task_vma_mode of linux/sched.h
_TASK_VMA_MODES = (profiles.TaskVma.MMAP_LOCK, profiles.TaskVma.SPLIT, profiles.TaskVma.SNAPSHOT)


class _Clock:
    """Virtual time: every reading moves it on, so that loops that wait for it end. Nanoseconds."""

    def __init__(self, step: int = 10_000_000) -> None:
        self.now = 1_000_000_000
        self._step = step

    def read(self) -> int:
        self.now += self._step
        return self.now


class KernelParts:
    """What a booted kernel consists of; `Kernel` adds what a person does with it."""

    def __init__(self, arch_name: str, profile: str | Profile, lockdep: bool = False) -> None:
        try:
            self.arch = arches.get(arch_name)
        except ValueError as error:
            raise KemuError(str(error)) from None
        self.profile = profile if isinstance(profile, Profile) else profiles.get(profile)
        self._lockdep_wanted = lockdep
        self.image = kernel_image(arch_name)
        layout = self.arch.layout
        self.memory = GuestMemory(RAM_SIZE, layout.phys_base)
        reserved = [(s.pa & -PAGE, s.pa + s.size + PAGE - 1 & -PAGE, "kernel image") for s in self.image.segments]
        self.init_mm = mem_init(self.memory, layout, self.arch.pgtable, _merge(reserved))
        self._load_image()
        self.space = KernelSpace(self.init_mm)
        self.slab = Slab(self.init_mm)
        self.vmalloc = Vmalloc(self.init_mm)
        self.types = Types(Btf(self.image.section_data(".BTF"), self.image.name), self.space)
        self.objects = GuestObjects(self.slab, self.types, self.image.addresses)
        self.machine = Machine(arch_name, self.memory, self.space, self.image)
        self.init_mm.flush_tlb_kernel_range = self.machine.flush_tlb_kernel_range
        self.kallsyms = Kallsyms(self.image)
        self.console = Console()
        self.clock = _Clock()
        self.mms = MmRegistry()
        zero_page = self.init_mm.pages.alloc_pages(0, "empty_zero_page", zero=True)
        self.faults = FaultHandler(zero_page)
        self.processes = Processes(self)
        self.files = self.processes.names
        self.tasks = self.processes.tasks
        self.current_task = self.processes.current
        self._boot_arch = importlib.import_module(f"emu.boot_{arch_name}")
        self.system = System(
            self.profile, self.console, self.kallsyms, self.space, self.init_mm, Taint(), self.current_task,
            lambda: self.machine.cpus[self.machine.current_cpu], lambda: self.machine.current_cpu,
            self._bug_table(), hardware=self._boot_arch.HARDWARE,
        )
        self.arch_boot = self._boot_arch.ArchBoot(self)
        self._percpu_offsets: list[int] = []
        self._setup_cpus()
        self._write_variables()
        self.deferred = DeferredWork(self.space, self.machine.call)
        self._subsystems: list[object] = []
        self._bind()
        if lockdep:  # what has run before anybody looks: lockdep has seen an exec()
            self.processes.reap(self.processes.exec(user_image("writer", arch_name), "writer", "init", pid=1))

    def _load_image(self) -> None:
        for segment in self.image.segments:
            self.memory.write(segment.pa, segment.data)
            prot = Prot.READ
            prot |= Prot.WRITE if segment.writable else Prot(0)
            prot |= Prot.EXEC if segment.executable else Prot(0)
            low, high = segment.va & -PAGE, segment.va + segment.size + PAGE - 1 & -PAGE
            if self.arch.name == "x86_64" and segment.va == self.arch.layout.kernel_text:
                high = high + (2 << 20) - 1 & -(2 << 20)  # text is mapped by 2 MiB blocks, as STRICT_KERNEL_RWX does
            self.init_mm.map_image(low, segment.pa & -PAGE, high - low, prot)

    def _bug_table(self) -> tuple[int, int]:
        start = self.image.addresses.get("__start___bug_table", 0)
        return start, self.image.addresses.get("__stop___bug_table", 0) - start

    def _setup_cpus(self) -> None:
        start, end = self.image.addresses["__per_cpu_start"], self.image.addresses["__per_cpu_end"]
        template = self.space.read(start, end - start)
        for number in range(NR_CPUS):
            area = self.slab.kzalloc(max(len(template), PAGE), f"per-CPU area {number}")
            self.space.write(area, template)
            offset = (area - start) & 0xFFFF_FFFF_FFFF_FFFF
            self._percpu_offsets.append(offset)
            self.space.write_u64(self.image.addresses["__per_cpu_offset"] + 8 * number, offset)
            self.arch_boot.setup_cpu(number, offset)
            idle = self.processes.add_idle(number)
            self.machine.idle_stacks.append(idle.stack_top)
            self.space.write(self.percpu("cpu_number", number), number.to_bytes(4, "little"))

    def percpu(self, variable: str, cpu: int) -> int:
        """Address of a CPU's copy of a per-CPU variable."""
        return (self.image.addresses[variable] + self._percpu_offsets[cpu]) & 0xFFFF_FFFF_FFFF_FFFF

    def _write_variables(self) -> None:
        symbol = self.machine.symbol
        self.types.view("mm_struct", symbol("init_mm")).pgd = self.init_mm.phys_to_virt(self.init_mm.pgd)
        features = self.types.view("kernel_features", symbol("kernel_features"))
        features.arena_scratch = self.profile.scratch is not profiles.Scratch.NONE
        features.arena_scratch_replace = self.profile.scratch is profiles.Scratch.REPLACE
        features.stream_error_limit = self.profile.stream_error_limit or 0
        features.prove_locking = self._lockdep_wanted
        features.task_vma = _TASK_VMA_MODES.index(self.profile.task_vma)

    def _bind(self) -> None:
        direct_hole = self.init_mm.phys_to_virt(192 << 30)  # in the direct map's range, beyond any RAM
        self.oops = self.arch_boot.oops()
        self._golden = Golden(self.space, self.console, self.vmalloc, self.slab, self.user_space, self.current_task,
                              direct_hole)
        self.output = Output(self.space)
        self._redirected = 0
        self.kthreads = Kthreads(self)
        self.lockdep = Lockdep(
            self.system, self.types, lambda: sorted(self.tasks.by_address.values(), key=lambda t: t.pid),
            lambda: self.oops.task_trace(self.current_task(), self.machine.kcall_frame_pointer),
            lambda: self.machine.cpus[self.machine.current_cpu].interrupts_enabled, lambda: self.clock.now,
            self._lockdep_wanted,
        )
        self.hung_tasks = HungTasks(self.system, self.types, self.oops, self.tasks.ppid)
        self.processes.sched.on_exit.append(self.lockdep.forget)
        self.rcu = Rcu(
            lambda: [task.view for task in self.tasks.by_address.values()], lambda: self.current_task().view
        )
        self._subsystems = [
            _MachineKcalls(self.machine, self.clock),
            *self.processes.subsystems(),
            self.deferred,
            MmKcalls(self.init_mm, self.slab, self.vmalloc, self.faults, self.mms),
            self.lockdep,
            self.rcu,
            self._golden,
            self.output,
            self.kthreads,
            Sysrq(self.console, lambda: self.processes.sched.run_list, self.tasks.ppid, self.oops),
            self.oops,
            *self._bpf_subsystems(),
        ]
        table = self.image.kcall_table()
        mailboxes = [self.percpu("kcall_mailbox", cpu) for cpu in range(NR_CPUS)]
        self.machine.bind(table, bind(table, collect(self._subsystems)), mailboxes)

    def _bpf_subsystems(self) -> list[object]:
        self.bpf = Bpf(self)
        self.bpf.aux_prog_offset = self.types.offsetof("bpf_prog_aux", "prog")
        start = self.jit_window[0]
        self.space.write_u64(self.machine.symbol("bpf_jit_start"), start)
        self.space.write_u64(self.machine.symbol("bpf_jit_end"), self.jit_window[1])
        self.programs = ProgLoader(self, self.bpf, self.jit_window)
        self.attachments = Attachments(self, self.jit_window)
        return self.bpf.subsystems()

    def standard_file(self, fd: int) -> int:
        """struct file that descriptor `fd` of a program that closed none leads to, 0: to none. 1 and 2 are a pipe that
        is read outside, 1 is a module's or /proc's file where a shell has redirected it."""
        if fd == 1 and self._redirected:
            return self._redirected
        return self.machine.symbol("output_file") if fd in (1, 2) else 0

    @property
    def jit_window(self) -> tuple[int, int]:
        """Kernel addresses that BPF text may have: the modules' area behind the modules of the image."""
        layout = self.arch.layout
        modules = [s.va + s.size for s in self.image.segments if layout.modules_start <= s.va < layout.modules_end]
        return (max(modules, default=layout.modules_start) + (2 << 20) - 1) & -(2 << 20), layout.modules_end

    def user_space(self) -> UserSpace | None:
        """Memory of the current task's process, None in a kernel thread."""
        mm = self.current_task().mm
        return UserSpace(mm, self.faults) if mm is not None else None


class _MachineKcalls:
    """kcalls that the machine itself answers."""

    def __init__(self, machine: Machine, clock: _Clock) -> None:
        self._machine, self._clock = machine, clock

    @kcall
    def flush_tlb_kernel_range(self, start: int, end: int) -> None:
        """void flush_tlb_kernel_range(unsigned long start, unsigned long end): on every CPU."""
        self._machine.flush_tlb_kernel_range(start, end)

    @kcall
    def ktime_get_mono_fast_ns(self) -> int:
        """u64 ktime_get_mono_fast_ns(void): virtual time."""
        return self._clock.read()


def _merge(ranges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    out: list[tuple[int, int, str]] = []
    for start, end, owner in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]), owner)
        else:
            out.append((start, end, owner))
    return out
