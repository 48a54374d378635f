"""What SEC() names mean: program type, attach type, sleepable, what to attach to.

Mirrors section_defs[] of tools/lib/bpf/libbpf.c for the program types that have a place here.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel_model.bpf.program import ProgType

BPF_TRACE_RAW_TP, BPF_TRACE_FENTRY, BPF_TRACE_FEXIT, BPF_MODIFY_RETURN = 23, 24, 25, 26
BPF_LSM_MAC, BPF_TRACE_ITER = 27, 28
BPF_XDP_DEVMAP, BPF_XDP_CPUMAP, BPF_XDP, BPF_STRUCT_OPS = 33, 35, 37, 44
BPF_TRACE_KPROBE_MULTI, BPF_TRACE_KPROBE_SESSION = 42, 56
BPF_TCX_INGRESS, BPF_TCX_EGRESS = 46, 47


@dataclass(frozen=True, slots=True)
class SecDef:
    """One row: `prefix` ends in "/" where something to attach to must follow, in "+" where it may."""

    prefix: str
    type: ProgType
    attach_type: int = 0
    sleepable: bool = False


SECTION_DEFS = (
    SecDef("socket", ProgType.SOCKET_FILTER),
    SecDef("kprobe+", ProgType.KPROBE),
    SecDef("kretprobe+", ProgType.KPROBE),
    SecDef("uretprobe+", ProgType.KPROBE),
    SecDef("uretprobe.s+", ProgType.KPROBE, sleepable=True),
    SecDef("kprobe.multi+", ProgType.KPROBE, BPF_TRACE_KPROBE_MULTI),
    SecDef("kretprobe.multi+", ProgType.KPROBE, BPF_TRACE_KPROBE_MULTI),
    SecDef("kprobe.session+", ProgType.KPROBE, BPF_TRACE_KPROBE_SESSION),
    SecDef("ksyscall+", ProgType.KPROBE),
    SecDef("kretsyscall+", ProgType.KPROBE),
    SecDef("uprobe+", ProgType.KPROBE),
    SecDef("uprobe.s+", ProgType.KPROBE, sleepable=True),
    SecDef("tc/ingress", ProgType.SCHED_CLS, BPF_TCX_INGRESS),
    SecDef("tc/egress", ProgType.SCHED_CLS, BPF_TCX_EGRESS),
    SecDef("tc", ProgType.SCHED_CLS),
    SecDef("classifier", ProgType.SCHED_CLS),
    SecDef("tcx/ingress", ProgType.SCHED_CLS, BPF_TCX_INGRESS),
    SecDef("tcx/egress", ProgType.SCHED_CLS, BPF_TCX_EGRESS),
    SecDef("action", ProgType.SCHED_ACT),
    SecDef("tracepoint+", ProgType.TRACEPOINT),
    SecDef("tp+", ProgType.TRACEPOINT),
    SecDef("raw_tracepoint+", ProgType.RAW_TRACEPOINT),
    SecDef("raw_tp+", ProgType.RAW_TRACEPOINT),
    SecDef("tp_btf+", ProgType.TRACING, BPF_TRACE_RAW_TP),
    SecDef("fentry+", ProgType.TRACING, BPF_TRACE_FENTRY),
    SecDef("fmod_ret+", ProgType.TRACING, BPF_MODIFY_RETURN),
    SecDef("fexit+", ProgType.TRACING, BPF_TRACE_FEXIT),
    SecDef("fentry.s+", ProgType.TRACING, BPF_TRACE_FENTRY, True),
    SecDef("fmod_ret.s+", ProgType.TRACING, BPF_MODIFY_RETURN, True),
    SecDef("fexit.s+", ProgType.TRACING, BPF_TRACE_FEXIT, True),
    SecDef("freplace+", ProgType.EXT),
    SecDef("lsm+", ProgType.LSM, BPF_LSM_MAC),
    SecDef("lsm.s+", ProgType.LSM, BPF_LSM_MAC, True),
    SecDef("iter+", ProgType.TRACING, BPF_TRACE_ITER),
    SecDef("iter.s+", ProgType.TRACING, BPF_TRACE_ITER, True),
    SecDef("syscall", ProgType.SYSCALL, 0, True),
    SecDef("xdp.frags/devmap", ProgType.XDP, BPF_XDP_DEVMAP),
    SecDef("xdp/devmap", ProgType.XDP, BPF_XDP_DEVMAP),
    SecDef("xdp.frags/cpumap", ProgType.XDP, BPF_XDP_CPUMAP),
    SecDef("xdp/cpumap", ProgType.XDP, BPF_XDP_CPUMAP),
    SecDef("xdp.frags", ProgType.XDP, BPF_XDP),
    SecDef("xdp", ProgType.XDP, BPF_XDP),
    SecDef("perf_event", ProgType.PERF_EVENT),
    SecDef("cgroup_skb/ingress", ProgType.CGROUP_SKB, 0),
    SecDef("cgroup_skb/egress", ProgType.CGROUP_SKB, 1),
    SecDef("struct_ops+", ProgType.STRUCT_OPS, BPF_STRUCT_OPS),
    SecDef("struct_ops.s+", ProgType.STRUCT_OPS, BPF_STRUCT_OPS, True),
)


def find_sec_def(section: str) -> tuple[SecDef, str | None] | None:
    """The row for a section name (without "?") and what it attaches to; None for a name that means no program type."""
    for row in SECTION_DEFS:
        if row.prefix.endswith("+"):
            prefix = row.prefix[:-1]
            if section == prefix:
                return row, None
            if section.startswith(prefix + "/"):
                return row, section[len(prefix) + 1 :]
        elif section == row.prefix:
            return row, None
    return None
