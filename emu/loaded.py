"""What a person has of BPF: an object file that is loaded, and the outcome of running a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel_model.bpf.arena import ArenaMap
from kernel_model.bpf.maps.base import Map
from kernel_model.bpf.object import BpfObject
from kernel_model.bpf.prog import Prog
from kernel_model.errors import KemuError
from kernel_model.mm.signals import SigInfo

if TYPE_CHECKING:
    from emu.kernel import Kernel


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
