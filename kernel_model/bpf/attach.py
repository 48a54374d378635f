"""Attaching loaded programs to what their SEC() names.

Mirrors bpf_program__attach() (tools/lib/bpf/libbpf.c) down to bpf_tracing_prog_attach() and bpf_raw_tp_link_attach()
(kernel/bpf/syscall.c). Errors are in libbpf's words. Leaves out pinning, cookies, replacing a link's program.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import TracebackType
from typing import Any

from kernel_model.bpf.object.secdef import (
    BPF_MODIFY_RETURN,
    BPF_TRACE_FENTRY,
    BPF_TRACE_FEXIT,
    BPF_TRACE_RAW_TP,
)
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.bpf.trampoline import ENOTSUPP, Trampolines
from kernel_model.errors import KernelErrno, NotModelledError
from kernel_model.trace.ftrace import Ftrace
from kernel_model.trace.tracepoint import Tracepoints
from kernel_model.types import Kind

_NAMES = {ENOTSUPP: "ENOTSUPP", errno.EOPNOTSUPP: "EOPNOTSUPP"}  # that errno lacks or calls otherwise
_NOT_MODELLED = {BPF_TRACE_FEXIT: "fexit", BPF_MODIFY_RETURN: "fmod_ret"}


def errstr(number: int) -> str:
    """errstr() (tools/lib/bpf/str_error.c): "-EBUSY"."""
    return "-" + _NAMES.get(number, errno.errorcode.get(number, str(number)))


class Link:
    """A program that is attached: until detach(), or until the `with` block ends."""

    def __init__(self, prog: Any, target: str, detach: Callable[[], None]) -> None:
        self.prog = prog
        self.target = target
        self._detach: Callable[[], None] | None = detach

    @property
    def attached(self) -> bool:
        """False after detach()."""
        return self._detach is not None

    def detach(self) -> None:
        """bpf_link__destroy(); a second time does nothing."""
        detach, self._detach = self._detach, None
        if detach is not None:
            detach()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


class Attachments:
    """What programs of one kernel attach to. `host` is the kernel's parts, `window` where BPF text goes."""

    def __init__(self, host: Any, window: tuple[int, int]) -> None:
        self._host = host
        self.ftrace = Ftrace(host)
        self.tracepoints = Tracepoints(host)
        self.trampolines = Trampolines(host, self.ftrace, window)

    def attach(self, prog: Any) -> Link:
        """bpf_program__attach() of a kernel_model.bpf.prog.Prog.

        KernelErrno where libbpf or the kernel refuses, NotModelledError for what there is no model of.
        """
        spec: ProgSpec = prog.spec
        if spec.type == ProgType.RAW_TRACEPOINT:
            if spec.attach_to is None:
                raise self._refused(spec, errno.EOPNOTSUPP)
            return self._raw_tracepoint(prog, spec.attach_to)
        if spec.type == ProgType.TRACING:
            kind = spec.expected_attach_type
            if kind in _NOT_MODELLED:
                raise NotModelledError(f"prog '{spec.name}': {_NOT_MODELLED[kind]} programs are not modelled "
                                       "(docs/limitations.md)")
            if kind == BPF_TRACE_RAW_TP and spec.attach_to is not None:
                return self._raw_tracepoint(prog, spec.attach_to)
            if kind == BPF_TRACE_FENTRY and spec.attach_to is not None:
                return self._fentry(prog, spec.attach_to)
        if spec.type in (ProgType.SYSCALL, ProgType.SOCKET_FILTER, ProgType.SCHED_ACT, ProgType.SCHED_CLS):
            raise self._refused(spec, errno.EOPNOTSUPP)  # nothing that their SEC() could name
        raise NotModelledError(f"prog '{spec.name}': attaching SEC(\"{spec.section}\") is not modelled "
                               "(docs/limitations.md)")

    @staticmethod
    def _refused(spec: ProgSpec, number: int) -> KernelErrno:
        return KernelErrno(number, f"prog '{spec.name}': failed to auto-attach: {errstr(number)}")

    def _raw_tracepoint(self, prog: Any, name: str) -> Link:
        if not self.tracepoints.find(name):
            raise KernelErrno(errno.ENOENT, f"prog '{prog.spec.name}': failed to attach to raw tracepoint '{name}': "
                                            f"{errstr(errno.ENOENT)}")
        link = self.tracepoints.register(name, prog.address)
        return Link(prog, name, lambda: self.tracepoints.unregister(name, link))

    def _fentry(self, prog: Any, name: str) -> Link:
        trampoline = self.trampolines.get(self._function(prog.spec, name))
        try:
            self.trampolines.link(trampoline, prog)
        except KernelErrno as error:
            text = f"prog '{prog.spec.name}': failed to attach: {errstr(error.errno)}"
            raise KernelErrno(error.errno, text) from None
        return Link(prog, name, lambda: self.trampolines.unlink(trampoline, prog))

    def _function(self, spec: ProgSpec, name: str) -> int:
        """BTF id of the function that a program traces: what the loader has found, or what has that name."""
        if spec.attach_btf_id:
            return spec.attach_btf_id
        found = self._host.types.btf.find(name, Kind.FUNC)
        if found is None:
            raise KernelErrno(errno.ESRCH, f"prog '{spec.name}': failed to find kernel BTF type ID of '{name}': "
                                           f"{errstr(errno.ESRCH)}")
        return int(found.id)
