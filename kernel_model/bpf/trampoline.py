"""Trampolines: machine code that calls tracing programs at the entry of a kernel function.

Mirrors kernel/bpf/trampoline.c: one trampoline for each function, by its key; its image is made anew whenever a program
comes or goes, and the last one that came runs first. Old images stay until no task can be in them. Leaves out fexit,
fmod_ret, freplace, LSM, sessions and functions of other programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from arch.interface import Prot, TrampolineProg, TrampolineRequest
from kernel_model.errors import KernelErrno, NotModelledError
from kernel_model.trace.ftrace import Ftrace
from kernel_model.types import Kind

E2BIG, EBUSY, ENOTSUPP = 7, 16, 524
BPF_MAX_TRAMP_LINKS = 38
_VMLINUX_BTF_ID = 1
_PAGE = 4096


def bpf_trampoline_compute_key(btf_id: int) -> int:
    """u64 bpf_trampoline_compute_key() of a kernel function, by its id in the kernel's BTF."""
    return _VMLINUX_BTF_ID << 32 | 0x80000000 | btf_id


@dataclass(slots=True)
class Trampoline:
    """struct bpf_trampoline. `progs` are programs (kernel_model.bpf.prog.Prog), in the order in which they run."""

    key: int
    function: int  # guest VA
    nr_args: int
    progs: list[Any] = field(default_factory=list)
    image: int = 0  # of the current image, 0: none


class Trampolines:
    """All trampolines of a kernel. `host` is the kernel's parts, `window` where BPF text goes."""

    def __init__(self, host: Any, ftrace: Ftrace, window: tuple[int, int]) -> None:
        self._host = host
        self._ftrace = ftrace
        self._window = window
        self._arch = host.arch.trampoline
        self._by_key: dict[int, Trampoline] = {}
        self._retired: list[int] = []

    def get(self, btf_id: int) -> Trampoline:
        """bpf_trampoline_get() of the function with that BTF id; NotModelledError for arguments on the stack."""
        key = bpf_trampoline_compute_key(btf_id)
        if key not in self._by_key:
            btf = self._host.types.btf
            func = btf.type(btf_id)
            params = btf.type(func.type_id).params
            kinds = {btf.resolve(type_id).kind for _, type_id in params}
            if len(params) > self._arch.MAX_ARGS or kinds & {Kind.STRUCT, Kind.UNION}:
                raise NotModelledError(f"trampoline of {func.name}: arguments on the stack or structures as arguments")
            self._by_key[key] = Trampoline(key, self._host.machine.symbol(func.name), len(params))
        return self._by_key[key]

    def link(self, trampoline: Trampoline, prog: Any) -> None:
        """bpf_trampoline_link_prog(). KernelErrno where the kernel refuses."""
        if len(trampoline.progs) >= BPF_MAX_TRAMP_LINKS:
            raise KernelErrno(E2BIG, "too many programs")
        if prog in trampoline.progs:
            raise KernelErrno(EBUSY, "attached already")
        if not self._ftrace.ftrace_location(trampoline.function):  # the text poked does not hold a nop
            raise KernelErrno(EBUSY if self._host.arch.name == "x86_64" else ENOTSUPP, "no entry to change")
        trampoline.progs.insert(0, prog)
        self._update(trampoline)

    def unlink(self, trampoline: Trampoline, prog: Any) -> None:
        """bpf_trampoline_unlink_prog()."""
        trampoline.progs.remove(prog)
        self._update(trampoline)

    def _update(self, trampoline: Trampoline) -> None:
        """bpf_trampoline_update(): a new image, or none any more."""
        old, trampoline.image = trampoline.image, 0
        if trampoline.progs:
            trampoline.image = self._make(trampoline)
        self._ftrace.direct_call(trampoline.function, trampoline.image or None)
        if old:
            self._host.kallsyms.remove_bpf(old)
            self._retired.append(old)
        self._reclaim()
        self._host.bpf.streams.forget_frames()

    def _make(self, trampoline: Trampoline) -> int:
        host = self._host
        progs = [self._prog(prog) for prog in trampoline.progs]
        size = len(self._arch.prepare(TrampolineRequest(self._window[0], trampoline.nr_args, progs)))
        if size > _PAGE:
            raise KernelErrno(E2BIG, "trampoline too large")
        name = f"bpf_trampoline_{trampoline.key}"
        base = int(host.vmalloc.vmalloc(size, name, start=self._window[0], end=self._window[1],
                                        prot=Prot.READ | Prot.EXEC))
        code = self._arch.prepare(TrampolineRequest(base, trampoline.nr_args, progs))
        host.space.write(base, code)
        host.machine.flush_icache_range(base, base + size)
        host.kallsyms.add_bpf(base, base + size, name)
        return base

    def _prog(self, prog: Any) -> TrampolineProg:
        host, view = self._host, self._host.types.view("bpf_prog", prog.address)
        kind = "_sleepable" if view.sleepable else ""
        symbol = host.machine.symbol
        return TrampolineProg(
            prog.address, int(view.bpf_func), 0 if view.jited else int(view.insnsi),
            symbol(f"__bpf_prog_enter{kind}_recur"), symbol(f"__bpf_prog_exit{kind}_recur"),
        )

    def _reclaim(self) -> None:
        """bpf_tramp_image_free() of images that tasks may have been in, once there are none."""
        if not self._host.processes.sched.run_list:
            for old in self._retired:
                self._host.machine.flush_icache_range(old, old + _PAGE)
                self._host.vmalloc.vfree(old)
            self._retired.clear()
