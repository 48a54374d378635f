"""From a program to the verifier's verdict in the loader's terms.

Mirrors the call of bpf_check() in bpf_prog_load() (kernel/bpf/syscall.c).
"""

from __future__ import annotations

from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.maps.base import Map
from kernel_model.bpf.object.attach import find_attach_btf_id, needs_target
from kernel_model.bpf.prog import Verdict
from kernel_model.bpf.program import ProgSpec
from kernel_model.bpf.verifier import bpf_check
from kernel_model.bpf.verifier.regs import MEM_RDONLY, PTR_TO_ARENA, PTR_TO_BTF_ID, PTR_TO_MEM, PTR_UNTRUSTED
from kernel_model.profiles import Profile
from kernel_model.types import Btf

# convert_ctx_accesses(): loads through these become BPF_PROBE_MEM
_PROBED = (PTR_TO_BTF_ID, PTR_TO_BTF_ID | PTR_UNTRUSTED, PTR_TO_MEM | MEM_RDONLY | PTR_UNTRUSTED)


def verify(
    spec: ProgSpec, maps: list[Map], btf: Btf | None, vmlinux: Btf, profile: Profile, log_level: int, arch_name: str
) -> Verdict:
    """Run the verifier. Raises VerifierRejected with the kernel's log where the program is refused."""
    if needs_target(spec) and not spec.attach_btf_id:
        spec.attach_btf_id = find_attach_btf_id(spec, vmlinux)
    verified = bpf_check(spec, maps, btf, vmlinux, profile, log_level, arch_name=arch_name)
    slots = [
        Slot(aux.seen, arena_access=aux.ptr_type == PTR_TO_ARENA, needs_zext=aux.needs_zext,
             untrusted_access=aux.ptr_type in _PROBED)
        for aux in verified.insn_aux
    ]
    functions = [Function(s.name, s.start, s.end, (s.stack_depth + 7) & ~7) for s in verified.subprogs]
    return Verdict(slots, functions, verified.arena_map, verified.kfunc_names, verified.log)
