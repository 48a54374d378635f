"""Boot, and what a person does with a booted kernel.

    kernel = emu.boot(arch="x86_64", profile="v7.2")
    result = kernel.run_user("touch", {"address": 0x1000})

Mirrors init/main.c in the order of things: memory, page tables, per-CPU areas, exception tables, then tasks.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arch as arches
import images
from arch.interface import Prot
from emu.kthreads import Kthreads
from emu.machine import NR_CPUS, Machine
from emu.processes import Processes, UserResult
from kernel_model import profiles
from kernel_model.bpf.arena import ArenaMap
from kernel_model.bpf.attach import Attachments, Link
from kernel_model.bpf.core import Bpf
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.maps.base import Map
from kernel_model.bpf.object import BpfObject, load_object
from kernel_model.bpf.object.arena_data import populate_arena
from kernel_model.bpf.prog import Prog, ProgLoader
from kernel_model.bpf.program import ProgSpec
from kernel_model.bpf.streams import BPF_STREAM_MAX_CAPACITY, Stream
from kernel_model.console import Console
from kernel_model.errors import KemuError
from kernel_model.golden import Golden
from kernel_model.image import Image, load_image
from kernel_model.irq_work import DeferredWork
from kernel_model.kallsyms import Kallsyms
from kernel_model.kcall import bind, collect, kcall
from kernel_model.locking.lockdep import Lockdep
from kernel_model.memory import GuestMemory
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.kcalls import MmKcalls
from kernel_model.mm.mmap import MAP_FIXED, MAP_SHARED, do_mmap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.signals import SigInfo
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmRegistry
from kernel_model.mm.vmalloc import Vmalloc
from kernel_model.oops.common import System
from kernel_model.output import Output
from kernel_model.panic import Taint
from kernel_model.profiles import Profile
from kernel_model.sched.debug import show_blocked_state
from kernel_model.sched.hung_task import HungTasks
from kernel_model.sched.rcu import Rcu
from kernel_model.sched.task import Task
from kernel_model.sysrq import Sysrq
from kernel_model.types import Btf, Types

IMAGES = Path(images.__file__).parent
RAM_SIZE = 256 << 20
DEFAULT_ARENA_ADDRESS = 0x7F00_0000_0000  # where a loader's mmap() of an arena without map_extra lands
PAGE = 4096


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run of a BPF program."""

    prog: str
    retval: int
    error: int  # 0, or -errno of the system call
    stdout: str  # the program's streams, consumed
    stderr: str
    dmesg: str  # what the kernel logged meanwhile
    oops: bool
    signal: SigInfo | None


@dataclass(slots=True)
class LoadedObject:
    """A loaded object file: programs by name, maps in the file's order, global variables by name."""

    kernel: Kernel
    object: BpfObject
    maps: list[Map]
    progs: dict[str, Prog]

    def map(self, name: str) -> Map:
        """The map called `name`; KemuError lists those there are."""
        for found in self.maps:
            if found.name == name:
                return found
        raise KemuError(f"{self.object.name}: no map {name!r}; it has {', '.join(m.name for m in self.maps)}")

    def prog(self, name: str) -> Prog:
        """The loaded program called `name`; KemuError lists those there are."""
        if name not in self.progs:
            raise KemuError(f"{self.object.name}: no program {name!r}; it has {', '.join(self.progs)}")
        return self.progs[name]

    def address(self, variable: str) -> int:
        """Kernel address of a global variable."""
        found = self.object.variables.get(variable)
        if found is None:
            raise KemuError(f"{self.object.name}: no variable {variable!r}")
        owner = self.maps[found.map_index]
        if isinstance(owner, ArenaMap):
            return owner.kernel_address(owner.direct_value_addr(found.offset))
        return owner.direct_value_addr(0) + found.offset

    def read(self, variable: str) -> bytes:
        """Contents of a global variable."""
        address = self.address(variable)
        return self.kernel.space.read(address, self.object.variables[variable].size)

    def read_longs(self, variable: str) -> list[int]:
        """A global array of 64-bit values, signed."""
        data = self.read(variable)
        return [int.from_bytes(data[i : i + 8], "little", signed=True) for i in range(0, len(data), 8)]

    def write(self, variable: str, data: bytes) -> None:
        """Set a global variable."""
        self.kernel.space.write(self.address(variable), data)


def _text(stream: Stream) -> str:
    return stream.read(BPF_STREAM_MAX_CAPACITY).decode("latin-1")


class _Clock:
    """Virtual time: every reading moves it on, so that loops that wait for it end. Nanoseconds."""

    def __init__(self, step: int = 10_000_000) -> None:
        self.now = 1_000_000_000
        self._step = step

    def read(self) -> int:
        self.now += self._step
        return self.now


class Kernel:
    """One booted kernel. Use `boot()`."""

    def __init__(self, arch_name: str, profile: str | Profile, lockdep: bool = False) -> None:
        try:
            self.arch = arches.get(arch_name)
        except ValueError as error:
            raise KemuError(str(error)) from None
        self.profile = profile if isinstance(profile, Profile) else profiles.get(profile)
        self._lockdep_wanted = lockdep
        self.image = _image(arch_name)
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
            self.processes.reap(self.processes.exec(_user_image("writer", arch_name), "writer", "init", pid=1))

    # -- boot --------------------------------------------------------------------------------------------------------

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
            _MachineKcalls(self),
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

    # -- tasks -------------------------------------------------------------------------------------------------------

    def user_space(self) -> UserSpace | None:
        """Memory of the current task's process, None in a kernel thread."""
        mm = self.current_task().mm
        return UserSpace(mm, self.faults) if mm is not None else None

    def exec(self, program: str, comm: str | None = None) -> tuple[Task, Image]:
        """A new process that runs images/user/<program>, not yet started."""
        image = _user_image(program, self.arch.name)
        return self.processes.exec(image, program, comm), image

    def run_user(
        self, program: str, variables: Mapping[str, bytes | int] | None = None, *, comm: str | None = None,
        cpu: int = 0, read: Mapping[str, int] | None = None, started: tuple[Task, Image] | None = None,
    ) -> UserResult:
        """Run a user program, and the threads it makes, to the end; its first thread runs on `cpu`.

        `variables` are written before it starts (ints as 8 bytes), `read` names variables and their sizes to hand
        back. `started` continues what exec() prepared.
        """
        task, image = started or self.exec(program, comm)
        return self.processes.run_user(task, image, variables or {}, cpu, read or {})

    def run_kthread(self, function: str, argument: bytes, comm: str, cpu: int = 0) -> UserResult:
        """kthread_run(): a kernel thread runs a guest function on `argument` to its end."""
        shell, _ = self.exec("writer", "sh")
        return self.processes.run_kthread(function, argument, comm, shell, cpu)

    def insmod(self, name: str, taint: str = "O") -> None:
        """Count a module as loaded: its text is part of the image; oopses list it and its taint."""
        if not any(section.startswith(f".module.{name}.") for section in self.image.sections):
            raise KemuError(f"no module {name} in {self.image.name}")
        self.system.modules.append((name, taint))
        for letter in taint:
            self.system.taint.add(letter)

    def write_golden(self, case: str, cpu: int = 0) -> UserResult:
        """`echo case > /sys/kernel/debug/golden/trig`: provoke one of module golden's faults."""
        if case.startswith("kthread_"):
            return self.run_kthread("kt", case.removeprefix("kthread_").encode() + b"\0", "golden_kt", cpu)
        self._redirected = self.machine.symbol("golden_file")
        variables = {"text": case.encode().ljust(64, b"\0"), "length": len(case)}
        try:
            return self.run_user("writer", variables, comm="sh", cpu=cpu, read={"result": 8})
        finally:
            self._redirected = 0

    def write_golock(self, case: str, cpu: int = 0) -> str:
        """`echo case > /sys/kernel/debug/golock/trig`: misuse locks; the log of it. Tasks that block stay blocked."""
        return self._write_file("golock_file", case, cpu, "sh")

    def sysrq(self, key: str, cpu: int = 0) -> str:
        """`echo key > /proc/sysrq-trigger` by init; what it logs. NotModelledError for keys other than d and w."""
        return self._write_file("sysrq_trigger_file", key, cpu, "init", pid=1)

    def _write_file(self, file: str, text: str, cpu: int, comm: str, pid: int | None = None) -> str:
        image = _user_image("writer", self.arch.name)
        task = self.processes.exec(image, "writer", comm, pid)
        before = len(self.console.lines)
        self._redirected = self.machine.symbol(file)
        self.processes.poke(task, image, {"text": text.encode().ljust(64, b"\0"), "length": len(text)})
        self.processes.start_user(task, image, cpu)
        try:
            if self.processes.run_group(task):
                self.processes.sched.group_exit.pop(task.tgid, None)
                self.processes.reap(task)
        finally:
            self._redirected = 0
        return "".join(line + "\n" for line in self.console.lines[before:])

    def pass_time(self, seconds: float) -> str:
        """Let virtual seconds pass, with khungtaskd at work; what is logged meanwhile."""
        before = len(self.console.lines)
        self.kthreads.pass_time(seconds)
        return "".join(line + "\n" for line in self.console.lines[before:])

    # -- BPF ---------------------------------------------------------------------------------------------------------

    def load(self, path: str | Path, engine: str = "jit", log_level: int = 0) -> LoadedObject:
        """Open a .bpf.o, create its maps, verify and load every program that SEC("?...") does not exclude.

        `engine` is "jit" or "interp". Raises ObjectFileError, VerifierRejected, KernelErrno or NotModelledError.
        """
        if engine not in ("jit", "interp"):
            raise KemuError(f"unknown engine {engine!r}: known are jit, interp")
        obj = load_object(path, self.types.btf, full_range=self.profile.ldimm64_full_range,
                          absent=absent_kfuncs(self.profile))
        loaded = LoadedObject(self, obj, self.create_maps(obj), {})
        maps = loaded.maps
        for spec in obj.progs:
            if spec.autoload:
                loaded.progs[spec.name] = self.load_prog(spec, obj, maps, engine, log_level)
        return loaded

    def create_maps(self, obj: BpfObject) -> list[Map]:
        """The maps of an object, an arena at its user address as after the loader's mmap()."""
        maps = [self.bpf.create_map(spec) for spec in obj.maps]
        for new in maps:
            if isinstance(new, ArenaMap):
                if not new.user_vm_start:
                    new.set_user_range(DEFAULT_ARENA_ADDRESS)
                populate_arena(new, self.faults)
        return maps

    def load_prog(
        self, spec: ProgSpec, obj: BpfObject, maps: list[Map], engine: str = "jit", log_level: int = 0
    ) -> Prog:
        """Verify one program and place it in guest memory."""
        from kernel_model.bpf.verify import verify  # the verifier costs import time that boot alone need not pay

        verdict = verify(spec, maps, obj.btf, self.types.btf, self.profile, log_level, self.arch.name)
        return self.programs.load(spec, maps, verdict, self.types.btf, engine)

    def attach(self, prog: Prog) -> Link:
        """Attach a program to what its SEC() names: a function's entry (fentry) or a tracepoint (raw_tp, tp_btf).

        It runs until the link's detach(), or as long as the `with` block of the link. Raises KernelErrno or
        NotModelledError.
        """
        return self.attachments.attach(prog)

    def run(self, prog: Prog, *, cpu: int = 0, comm: str = "arena_run") -> RunResult:
        """bpf(BPF_PROG_TEST_RUN) from a user process that has the program's arena mapped."""
        started = self.exec("prog_run", comm)
        mm = started[0].mm
        assert mm is not None
        if prog.arena is not None:
            where = do_mmap(mm, prog.arena.user_vm_start, prog.arena.size, 3, MAP_SHARED | MAP_FIXED, prog.arena)
            if where != prog.arena.user_vm_start:
                raise KemuError(f"mmap of arena {prog.arena.name!r}: error {where}")
        attr = struct.pack("<II", prog.fd, 0).ljust(128, b"\0")
        ended = self.run_user("prog_run", {"attr": attr}, cpu=cpu, read={"attr": 8, "result": 8}, started=started)
        error, retval = int.from_bytes(ended.values["result"], "little", signed=True), 0
        if not error:
            retval = int.from_bytes(ended.values["attr"][4:], "little", signed=True)
        streams = prog.streams
        return RunResult(prog.name, retval, error, _text(streams.stdout), _text(streams.stderr), ended.dmesg,
                         ended.oops, ended.signal)

    def touch(self, address: int, arena: ArenaMap | None = None, *, write: bool = False, cpu: int = 0) -> UserResult:
        """A user process reads or writes 8 bytes at `address`, with `arena` mapped if given."""
        started = self.exec("touch")
        mm = started[0].mm
        assert mm is not None
        if arena is not None:
            do_mmap(mm, arena.user_vm_start, arena.size, 3, MAP_SHARED | MAP_FIXED, arena)
        variables = {"address": address, "operation": int(write).to_bytes(4, "little")}
        return self.run_user("touch", variables, cpu=cpu, read={"value": 8}, started=started)

    def free(self, loaded: LoadedObject) -> None:
        """Destroy an object's maps, as when its last descriptor is closed."""
        for old in loaded.maps:
            self.bpf.maps.remove(old)
            old.free()

    def show_blocked_tasks(self) -> list[str]:
        """What sysrq-w prints: tasks in uninterruptible sleep and where they are."""
        return show_blocked_state(self.processes.sched.run_list, self.tasks.ppid, self.oops)

    def dmesg(self) -> str:
        """The kernel log so far."""
        return self.console.text()


class _MachineKcalls:
    """kcalls that the machine itself answers."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @kcall
    def flush_tlb_kernel_range(self, start: int, end: int) -> None:
        """void flush_tlb_kernel_range(unsigned long start, unsigned long end): on every CPU."""
        self._kernel.machine.flush_tlb_kernel_range(start, end)

    @kcall
    def ktime_get_mono_fast_ns(self) -> int:
        """u64 ktime_get_mono_fast_ns(void): virtual time."""
        return self._kernel.clock.read()


# enum task_vma_mode of linux/sched.h
_TASK_VMA_MODES = (profiles.TaskVma.MMAP_LOCK, profiles.TaskVma.SPLIT, profiles.TaskVma.SNAPSHOT)
_IMAGES: dict[Path, Any] = {}


def _cached(path: Path) -> Image:
    """Images never change while we run: read each once."""
    if path not in _IMAGES:
        _IMAGES[path] = load_image(path)
    found: Image = _IMAGES[path]
    return found


def _image(arch_name: str) -> Image:
    return _cached(IMAGES / f"vmlinux.{arch_name}")


def _user_image(program: str, arch_name: str) -> Image:
    path = IMAGES / "user" / f"{program}.{arch_name}"
    if path not in _IMAGES and not path.exists():
        raise KemuError(f"no user program {program!r}: images/user has no {path.name}")
    return _cached(path)


def _merge(ranges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    out: list[tuple[int, int, str]] = []
    for start, end, owner in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]), owner)
        else:
            out.append((start, end, owner))
    return out


def boot(
    arch: str = "x86_64", profile: str | Profile = profiles.DEFAULT, *, lockdep: bool = False
) -> Kernel:
    """Boot a virtual kernel: `arch` is "x86_64" or "arm64", `profile` a name of `kemu profiles` or a Profile.

    `lockdep` makes it one with CONFIG_PROVE_LOCKING; Kernel.lockdep.prove_locking is its sysctl.

    Raises KemuError for unknown names and MissingSymbolsError for an image that calls what nobody implements.
    """
    return Kernel(arch, profile, lockdep)
