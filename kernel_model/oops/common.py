"""State and steps that both architectures' die paths share.

Mirrors kernel/panic.c (panic, oops_exit), kernel/exit.c (make_task_dead), lib/bug.c (report_bug) and
kernel/module/main.c (print_modules).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kernel_model.console import Console
from kernel_model.kallsyms import Kallsyms
from kernel_model.mm.access import GuestAddressError, KernelSpace
from kernel_model.mm.init_mm import InitMm
from kernel_model.panic import Taint, Where, dump_stack_print_info, end_trace
from kernel_model.profiles import Profile
from kernel_model.sched.task import Task

BUG_ENTRY_SIZE = 12
BUGFLAG_WARNING = 1


class CpuState(Protocol):
    """What the die path reads from the CPU it runs on."""

    @property
    def root(self) -> int:
        """Physical address of the active user (x86-64: only) root table."""
        ...

    def control_registers(self) -> dict[str, int]:
        """Control registers by name."""
        ...


@dataclass(slots=True)
class System:
    """The kernel as its dying functions see it."""

    profile: Profile
    console: Console
    kallsyms: Kallsyms
    space: KernelSpace
    init_mm: InitMm
    taint: Taint
    current: Callable[[], Task]
    cpu: Callable[[], CpuState]
    cpu_number: Callable[[], int]
    bug_table: tuple[int, int]  # address and size of __bug_table
    hardware: str | None = None
    modules: list[tuple[str, str]] = field(default_factory=list)  # (name, taint letters) of loaded modules
    die_counter: int = 0

    def where(self) -> Where:
        """CPU and task of the report being written."""
        task = self.current()
        return Where(self.cpu_number(), task.uid, task.pid, task.comm, self.profile.release, self.profile.version,
                     hardware=self.hardware)

    def info_lines(self) -> list[str]:
        """`CPU: ...` and what follows it."""
        return dump_stack_print_info(self.where(), self.taint)

    def modules_line(self) -> str:
        """print_modules(): `Modules linked in: golden(O)`; ends in a blank after the last name, none if empty."""
        names = " ".join(f"{name}({letters})" if letters else name for name, letters in self.modules)
        return f"Modules linked in: {names}" if names else "Modules linked in:"

    def read_word(self, address: int) -> int | None:
        """8 bytes of kernel memory, None where nothing is mapped."""
        try:
            return self.space.read_u64(address)
        except GuestAddressError:
            return None

    def read_code(self, address: int, length: int) -> bytes | None:
        """Bytes of kernel memory, or of the current task's user memory; None if any is missing."""
        try:
            if address >> 63:
                return self.space.read(address, length)
        except GuestAddressError:
            return None
        return self._read_user(address, length)

    def _read_user(self, address: int, length: int) -> bytes | None:
        mm = self.current().mm
        if mm is None:
            return None
        out = b""
        while len(out) < length:
            at = address + len(out)
            walk = mm.tree.walk(at)
            if walk.pa is None:
                return None
            out += self.init_mm.memory.read(walk.pa, min(length - len(out), 4096 - at % 4096))
        return out

    def find_bug(self, ip: int) -> tuple[str, int, int] | None:
        """find_bug(): (file, line, flags) of the bug entry at `ip`, None if there is none."""
        address, size = self.bug_table
        for entry in range(address, address + size, BUG_ENTRY_SIZE):
            raw = self.space.read(entry, BUG_ENTRY_SIZE)
            offset = int.from_bytes(raw[:4], "little", signed=True)
            if entry + offset == ip:
                name = entry + 4 + int.from_bytes(raw[4:8], "little", signed=True)
                line, flags = int.from_bytes(raw[8:10], "little"), int.from_bytes(raw[10:12], "little")
                return self.space.read_cstr(name).decode(), line, flags
        return None

    def end_trace(self) -> None:
        """print_oops_end_marker()."""
        self.console.print(end_trace())
