"""What tracing programs attach to: from the name in SEC() to a BTF id of the kernel.

Mirrors libbpf_find_attach_btf_id(), find_attach_btf_id() and btf_get_kernel_prefix_kind() of tools/lib/bpf/libbpf.c.
Left out: modules, freplace.

One difference: the selftests build an object for each architecture because SYS_PREFIX is "__x64_" or "__arm64_". The
objects here serve both, so a name that begins with another architecture's prefix of system calls means the wrapper
that the running kernel has.
"""

from __future__ import annotations

from arch.arm64 import abi as arm64_abi
from arch.x86_64 import abi as x86_64_abi
from kernel_model.bpf.object.secdef import (
    BPF_LSM_MAC,
    BPF_MODIFY_RETURN,
    BPF_TRACE_FENTRY,
    BPF_TRACE_FEXIT,
    BPF_TRACE_ITER,
    BPF_TRACE_RAW_TP,
)
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf, Kind

SYS_PREFIXES = (x86_64_abi.SYS_PREFIX, arm64_abi.SYS_PREFIX)
_FUNCTIONS = (BPF_TRACE_FENTRY, BPF_TRACE_FEXIT, BPF_MODIFY_RETURN)


def needs_target(spec: ProgSpec) -> bool:
    """True for programs that the kernel takes with an attach_btf_id only."""
    return spec.type in (ProgType.TRACING, ProgType.LSM)


def _candidates(name: str) -> list[str]:
    for prefix in SYS_PREFIXES:
        if name.startswith(f"{prefix}sys_"):
            bare = name.removeprefix(prefix)
            return [name, *(other + bare for other in SYS_PREFIXES if other != prefix)]
    return [name]


def _find(attach_type: int, name: str, vmlinux: Btf) -> int:
    prefix = {BPF_TRACE_RAW_TP: "btf_trace_", BPF_LSM_MAC: "bpf_lsm_", BPF_TRACE_ITER: "bpf_iter_"}.get(attach_type, "")
    kind = Kind.TYPEDEF if attach_type == BPF_TRACE_RAW_TP else Kind.FUNC
    found = vmlinux.find(prefix + name, kind)
    return found.id if found is not None else 0


def find_attach_btf_id(spec: ProgSpec, vmlinux: Btf) -> int:
    """The kernel's BTF id of what `spec` attaches to. ObjectFileError, in libbpf's words, where there is none."""
    if spec.attach_to is None:
        raise ObjectFileError(f"prog '{spec.name}': no BTF-based attach target is specified, use "
                              "bpf_program__set_attach_target()")
    names = _candidates(spec.attach_to) if spec.expected_attach_type in _FUNCTIONS else [spec.attach_to]
    for name in names:
        found = _find(spec.expected_attach_type, name.removeprefix("vmlinux:"), vmlinux)
        if found:
            return found
    raise ObjectFileError(f"prog '{spec.name}': failed to find kernel BTF type ID of '{spec.attach_to}': -ESRCH")
