"""What a person does with a booted kernel.

    kernel = emu.boot(arch="x86_64", profile="v7.2")
    result = kernel.run_user("touch", {"address": 0x1000})

How it comes up, and of what parts it consists, is in start_kernel.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from emu.image_files import user_image
from emu.loaded import LoadedObject, RunResult
from emu.processes import UserResult
from emu.start_kernel import KernelParts
from kernel_model import profiles
from kernel_model.bpf.arena import ArenaMap
from kernel_model.bpf.attach import Link
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.maps.base import Map
from kernel_model.bpf.object import BpfObject, load_object
from kernel_model.bpf.object.arena_data import populate_arena
from kernel_model.bpf.prog import Prog
from kernel_model.bpf.program import ProgSpec
from kernel_model.bpf.streams import BPF_STREAM_MAX_CAPACITY, Stream
from kernel_model.errors import KemuError
from kernel_model.image import Image
from kernel_model.mm.mmap import MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE, do_mmap
from kernel_model.profiles import Profile
from kernel_model.sched.debug import show_blocked_state
from kernel_model.sched.task import Task

DEFAULT_ARENA_ADDRESS = 0x7F00_0000_0000  # where a loader's mmap() of an arena without map_extra lands
RW = PROT_READ | PROT_WRITE


def _text(stream: Stream) -> str:
    return stream.read(BPF_STREAM_MAX_CAPACITY).decode("latin-1")


class Kernel(KernelParts):
    """One booted kernel. Use `boot()`."""

    # -- tasks -------------------------------------------------------------------------------------------------------

    def exec(self, program: str, comm: str | None = None) -> tuple[Task, Image]:
        """A new process that runs images/user/<program>, not yet started."""
        image = user_image(program, self.arch.name)
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
        image = user_image("writer", self.arch.name)
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

    def show_blocked_tasks(self) -> list[str]:
        """What sysrq-w prints: tasks in uninterruptible sleep and where they are."""
        return show_blocked_state(self.processes.sched.run_list, self.tasks.ppid, self.oops)

    def dmesg(self) -> str:
        """The kernel log so far."""
        return self.console.text()

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
            where = do_mmap(mm, prog.arena.user_vm_start, prog.arena.size, RW, MAP_SHARED | MAP_FIXED, prog.arena)
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
            do_mmap(mm, arena.user_vm_start, arena.size, RW, MAP_SHARED | MAP_FIXED, arena)
        variables = {"address": address, "operation": int(write).to_bytes(4, "little")}
        return self.run_user("touch", variables, cpu=cpu, read={"value": 8}, started=started)

    def free(self, loaded: LoadedObject) -> None:
        """Destroy an object's maps, as when its last descriptor is closed."""
        for old in loaded.maps:
            self.bpf.maps.remove(old)
            old.free()


def boot(
    arch: str = "x86_64", profile: str | Profile = profiles.DEFAULT, *, lockdep: bool = False
) -> Kernel:
    """Boot a virtual kernel: `arch` is "x86_64" or "arm64", `profile` a name of `kemu profiles` or a Profile.

    `lockdep` makes it one with CONFIG_PROVE_LOCKING; Kernel.lockdep.prove_locking is its sysctl.

    Raises KemuError for unknown names and MissingSymbolsError for an image that calls what nobody implements.
    """
    return Kernel(arch, profile, lockdep)
