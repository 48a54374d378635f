"""The verifier: bpf_check().

Mirrors bpf_check() of kernel/bpf/verifier.c (6.18) with one module for each concern; see docs/limitations.md for what
it refuses because it does not know it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from kernel_model.bpf.program import MapType, ProgSpec
from kernel_model.bpf.verifier import calls, cfg, check, global_funcs, liveness, tracing
from kernel_model.bpf.verifier.btfview import BtfView
from kernel_model.bpf.verifier.env import MAX_VAR_OFF, Env
from kernel_model.bpf.verifier.errors import Reject, VerifierRejected
from kernel_model.bpf.verifier.result import Stats, VerifiedProg, VerifierMap
from kernel_model.profiles import Profile
from kernel_model.types import Btf

PAGE_SIZE = 4096
__all__ = ["VerifiedProg", "VerifierRejected", "bpf_check"]


def bpf_check(
    prog: ProgSpec, maps: Sequence[VerifierMap], btf: Btf | None, vmlinux: Btf, profile: Profile, log_level: int,
    *, arch_name: str = "x86_64", test_state_freq: bool = False,
) -> VerifiedProg:
    """Verify `prog`, whose pseudo instructions index `maps`. Raises VerifierRejected with the log.

    `log_level` is the kernel's: bit 1 paths, bit 2 everything, bit 4 statistics.
    """
    env = Env(prog, maps, BtfView(btf) if btf is not None else None, BtfView(vmlinux), profile, log_level, arch_name,
              test_state_freq)
    try:
        _run(env)
    except Reject as reject:
        env.verbose(_statistics(env))
        raise VerifierRejected(reject.errno, prog.name, reject.reason, env.log.text) from None
    env.verbose(_statistics(env))
    stats = Stats(env.insn_processed, env.max_states_per_insn, env.total_states, env.peak_states)
    names = {call.btf_id: call.name for call in env.kfuncs.values()}
    return VerifiedProg(
        prog.name, prog.insns, env.aux, env.subprogs, [maps[i] for i in env.used_maps], env.log.text, stats,
        env.arena_map, env.may_goto, prog.sleepable, max(s.stack_depth for s in env.subprogs), names,
    )


def _statistics(env: Env) -> str:
    return (
        f"processed {env.insn_processed} insns (limit 1000000) max_states_per_insn {env.max_states_per_insn} "
        f"total_states {env.total_states} peak_states {env.peak_states} mark_read 0\n"
    )


def _run(env: Env) -> None:
    if not env.insns:
        env.inval("a program without instructions")
    cfg.add_subprogs(env)
    _name_subprogs(env)
    global_funcs.find_linkage(env)
    cfg.check_subprogs(env)
    _use_maps(env)
    cfg.check_cfg(env)
    cfg.compute_postorder(env)
    tracing.check_attach(env)
    cfg.compute_scc(env)
    liveness.compute_live_registers(env)
    check.do_check_all(env)
    calls.check_max_stack_depth(env)


def _name_subprogs(env: Env) -> None:
    names = {start: name for name, start in env.prog.subprogs}
    for sub in env.subprogs:
        sub.name = names.get(sub.start, "")
    for info in env.prog.func_info:
        for sub in env.subprogs:
            if sub.start == info.insn_off:
                sub.btf_func = info.type_id


def _use_maps(env: Env) -> None:
    """resolve_pseudo_ldimm64()'s checks: which maps, at most one arena, values that can be addressed."""
    for idx, insn in enumerate(env.insns):
        if not insn.is_ld_imm64:
            continue
        if idx + 1 >= len(env.insns) or env.insns[idx + 1].code or env.insns[idx + 1].dst or env.insns[idx + 1].src:
            env.inval("invalid bpf_ld_imm64 insn")
        if insn.src not in (1, 2):
            continue
        if not 0 <= insn.imm < len(env.maps):
            env.inval(f"fd {insn.imm} is not pointing to valid bpf_map")
        if insn.imm not in env.used_maps:
            env.used_maps.append(insn.imm)
        env.aux[idx].map_index = insn.imm
        found = env.maps[insn.imm]
        if found.type == MapType.ARENA:
            _use_arena(env, insn.imm)
        if insn.src == 2:
            _direct_value(env, found, env.insns[idx + 1].imm & 0xFFFFFFFF)


def _direct_value(env: Env, found: VerifierMap, off: int) -> None:
    """map_direct_value_addr(): the offset of a BPF_PSEUDO_MAP_VALUE load lies in the map."""
    if off >= MAX_VAR_OFF and not env.profile.ldimm64_full_range:
        env.inval(f"direct value offset of {off} is not allowed")
    arena = found.type == MapType.ARENA
    if off > found.max_entries * PAGE_SIZE if arena else off >= max(found.value_size, 1):
        env.fail(errno.ERANGE if arena else errno.EINVAL,
                 f"invalid access to map value pointer, value_size={found.value_size} off={off}")


def _use_arena(env: Env, index: int) -> None:
    """__add_used_map() of an arena."""
    if env.arena_map not in (None, index):
        env.fail(errno.EBUSY, "Only one arena per program")
    if not getattr(env.maps[index], "user_vm_start", 0):
        env.inval("arena's user address must be set via map_extra or mmap()")
    env.arena_map = index
