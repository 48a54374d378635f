"""From a program to the verifier's verdict in the loader's terms.

Mirrors the call of bpf_check() in bpf_prog_load() (kernel/bpf/syscall.c).
"""

from __future__ import annotations

from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.maps.base import Map
from kernel_model.bpf.prog import Verdict
from kernel_model.bpf.program import ProgSpec
from kernel_model.bpf.verifier import bpf_check
from kernel_model.bpf.verifier.regs import PTR_TO_ARENA
from kernel_model.profiles import Profile
from kernel_model.types import Btf


def verify(
    spec: ProgSpec, maps: list[Map], btf: Btf | None, vmlinux: Btf, profile: Profile, log_level: int, arch_name: str
) -> Verdict:
    """Run the verifier. Raises VerifierRejected with the kernel's log where the program is refused."""
    verified = bpf_check(spec, maps, btf, vmlinux, profile, log_level, arch_name=arch_name)
    slots = [
        Slot(aux.seen, arena_access=aux.ptr_type == PTR_TO_ARENA, needs_zext=aux.needs_zext)
        for aux in verified.insn_aux
    ]
    functions = [Function(s.name, s.start, s.end, (s.stack_depth + 7) & ~7) for s in verified.subprogs]
    return Verdict(slots, functions, verified.arena_map, verified.kfunc_names, verified.log)
