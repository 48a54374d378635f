"""An instruction of the program being verified, as the log prints it.

Mirrors verbose_insn() and disasm_kfunc_name() (kernel/bpf/verifier.c): loads of maps show addresses, calls show names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from kernel_model.bpf import disasm

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env


def call_name(env: Env, imm: int, kfunc: bool) -> str:
    """Name of a helper or of a kernel function by its BTF id."""
    if not kfunc:
        return disasm.helper_name(imm)
    return env.vmlinux.name(imm) if env.vmlinux is not None and imm else "unknown"


def _map_address(env: Env, idx: int) -> int | None:
    """What resolve_pseudo_ldimm64() put into the instruction; None where nothing is known."""
    insn = env.insns[idx]
    if insn.src not in (isa.BPF_PSEUDO_MAP_FD, isa.BPF_PSEUDO_MAP_VALUE) or not 0 <= insn.imm < len(env.maps):
        return None
    used = env.maps[insn.imm]
    if insn.src == isa.BPF_PSEUDO_MAP_FD:
        return getattr(used, "address", None)
    direct = getattr(used, "direct_value_addr", None)
    return direct(env.insns[idx + 1].imm & 0xFFFFFFFF) if direct is not None else None


def text(env: Env, idx: int) -> str:
    """verbose_insn() of slot `idx`, without the newline."""
    imm = _map_address(env, idx) if env.insns[idx].is_ld_imm64 else None
    return disasm.insn_text(env.insns, idx, lambda i, kfunc: call_name(env, i, kfunc), imm)
