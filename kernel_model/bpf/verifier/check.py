"""The walk: every instruction on every path, as far as states have not been seen safe before.

Mirrors do_check(), do_check_insn(), check_ld_imm(), pop_stack() (kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from kernel_model.bpf.program import MapType
from kernel_model.bpf.verifier import (
    alu,
    callbacks,
    calls,
    global_funcs,
    helpers,
    jumps,
    kfuncs,
    kinds,
    mem,
    prune,
    regions,
    scc,
)
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.env import COMPLEXITY_LIMIT_INSNS, Env
from kernel_model.bpf.verifier.state import MAIN_FUNC, Frame, State

if TYPE_CHECKING:
    from arch.bpf_isa import Insn


def _entry_state(env: Env, number: int) -> State:
    """do_check_common(): the state at the entry of the program, where R1 is the context, or of a global function."""
    frame = Frame(MAIN_FUNC, 0, number)
    if number:
        global_funcs.enter(env, number, frame.regs)
    else:
        sub = env.subprogs[0]
        if env.btf is not None and sub.btf_func:
            global_funcs.prepare(env, sub)  # only for what it has to say
        frame.regs[1].mark_known_zero(R.PTR_TO_CTX)
    return State(frames=[frame], in_sleepable=env.prog.sleepable, first_insn_idx=env.subprogs[number].start)


def do_check_all(env: Env) -> None:
    """do_check_main(), then do_check_subprogs(): every global function that something verified calls. Raises Reject."""
    _do_check_common(env, 0)
    again = True
    while again:
        again = False
        for number, sub in enumerate(env.subprogs):
            if not number or not sub.is_global or not sub.called or sub.verified:
                continue
            _do_check_common(env, number)
            if env.log1:
                env.verbose(f"Func#{number} ('{sub.name}') is safe for any args that match its prototype\n")
            sub.verified = again = True


def _do_check_common(env: Env, number: int) -> None:
    env.prev_line = None
    env.explored.clear()
    env.scc_visits.clear()
    env.cur = _entry_state(env, number)
    do_check(env, env.subprogs[number].start)
    if not env.log2:
        env.log.reset(0)


def do_check(env: Env, start: int) -> None:
    """Walk from instruction `start` until no path is left. Raises Reject."""
    env.insn_idx, prev = start, -1
    print_state = False
    env.scratch_all()
    env.liveness.reset_callchain()
    while True:
        env.cur_hist = None
        env.prev_insn_idx = prev
        if env.insn_idx >= len(env.insns):
            env.fail(14, f"invalid insn idx {env.insn_idx} insn_cnt {len(env.insns)}")
        env.insn_processed += 1
        if env.insn_processed > COMPLEXITY_LIMIT_INSNS:
            env.fail(7, f"BPF program is too large. Processed {env.insn_processed} insn")
        state = env.cur
        state.last_insn_idx = env.prev_insn_idx
        state.insn_idx = env.insn_idx
        if env.cur_aux.prune_point and prune.is_state_visited(env, env.insn_idx):
            _log_safe(env, print_state)
            ended = True
        else:
            if env.cur_aux.jmp_point:
                env.push_jump(env.cur)
            print_state = _log_insn(env, print_state)
            env.cur_aux.seen = True
            env.cur_aux.non_sleepable |= regions.non_sleepable_context(env) is not None
            prev = env.insn_idx
            env.liveness.begin_writes(env.insn_idx)
            depth = env.cur.curframe
            ended = _insn(env)
            print_state |= not ended and env.cur.curframe < depth
            env.liveness.commit_writes()
        if ended:
            popped = _next_path(env)
            if popped is None:
                return
            prev, print_state = popped, True


def _next_path(env: Env) -> int | None:
    """process_bpf_exit and pop_stack(): the next path's previous instruction, None where there is none."""
    env.scratch_all()
    env.liveness.update()
    scc.update_branch_counts(env, env.cur)
    if not env.pending:
        return None
    entry = env.pending.pop()
    env.cur = entry.state
    env.insn_idx = entry.insn_idx
    if not env.log2:
        env.log.reset(entry.log_pos)
    env.liveness.reset_callchain()
    return entry.prev_insn_idx


def _log_safe(env: Env, print_state: bool) -> None:
    if not env.log1:
        return
    if print_state:
        env.verbose(f"\nfrom {env.prev_insn_idx} to {env.insn_idx}: safe\n")
    else:
        env.verbose(f"{env.insn_idx}: safe\n")


def _log_insn(env: Env, print_state: bool) -> bool:
    """The lines before an instruction; False: a new path's state has been printed."""
    if env.log2 and print_state:
        env.verbose(f"\nfrom {env.prev_insn_idx} to {env.insn_idx}:")
        env.print_state(env.cur, env.cur.curframe)
        print_state = False
    if env.log1:
        if env.scratched_regs or env.scratched_slots:
            env.print_insn_state(env.cur, env.cur.curframe)
        env.verbose_line(env.insn_idx, "; ")
        env.prev_log_pos = env.log.end_pos
        env.verbose(f"{env.insn_idx}: {env.insn_text(env.insn_idx)}\n")
        env.prev_insn_print_pos = env.log.end_pos - env.prev_log_pos
        env.prev_log_pos = env.log.end_pos
    return print_state


def _insn(env: Env) -> bool:
    """do_check_insn(): True where the path ends here; else insn_idx is where it goes on."""
    insn = env.insn
    cls = insn.cls
    if cls in (isa.BPF_ALU, isa.BPF_ALU64):
        alu.check(env)
    elif cls == isa.BPF_LDX:
        mem.check_load(env)
    elif cls == isa.BPF_STX and insn.mode == isa.BPF_ATOMIC:
        mem.check_atomic(env)
    elif cls in (isa.BPF_STX, isa.BPF_ST):
        mem.check_store(env)
    elif cls == isa.BPF_LD:
        _load_immediate(env, insn)
    else:
        return _jump(env, insn)
    env.insn_idx += 1
    return False


def _jump(env: Env, insn: Insn) -> bool:
    env.jmps_processed += 1
    if insn.op == isa.BPF_CALL:
        _call(env, insn)
    elif insn.op == isa.BPF_JA:
        wide = insn.cls == isa.BPF_JMP32
        if insn.is_reg or insn.src or insn.dst or (wide and insn.off) or (not wide and insn.imm):
            env.inval("BPF_JA uses reserved fields")
        env.insn_idx += kinds.jump_offset(insn)
    elif insn.op == isa.BPF_EXIT:
        if insn.cls == isa.BPF_JMP32:
            env.inval(f"invalid BPF_JMP/JMP32 opcode {insn.op:x}")
        return calls.check_exit(env)
    else:
        jumps.check(env)
    env.insn_idx += 1
    return False


def _call(env: Env, insn: Insn) -> None:
    if insn.is_reg or insn.dst or insn.src > isa.BPF_PSEUDO_KFUNC_CALL or (insn.off and insn.src != 2):
        env.inval("BPF_CALL uses reserved fields")
    if env.cur.active_locks and not _spin_allowed(env, insn):
        env.inval("function calls are not allowed while holding a lock")
    if insn.src == isa.BPF_PSEUDO_CALL:
        calls.check_call(env)
    elif insn.src == isa.BPF_PSEUDO_KFUNC_CALL:
        kfuncs.check(env, insn)
    else:
        helpers.check(env)


def _spin_allowed(env: Env, insn: Insn) -> bool:
    """Calls that a program may make with a lock held; static functions always."""
    if insn.src == isa.BPF_PSEUDO_KFUNC_CALL:
        return not insn.off and kfuncs.spin_allowed(env, insn)
    return insn.src == isa.BPF_PSEUDO_CALL or insn.imm == kinds.FUNC_SPIN_UNLOCK


def _load_immediate(env: Env, insn: Insn) -> None:
    """check_ld_imm()."""
    if not insn.is_ld_imm64:
        env.not_modelled("BPF_LD_[ABS|IND]")
    second = env.insns[env.insn_idx + 1]
    dst = env.reg_write(insn.dst)
    if insn.src == 0:
        dst.mark_scalar(isa.imm64(insn, second))
    elif insn.src in (isa.BPF_PSEUDO_MAP_FD, isa.BPF_PSEUDO_MAP_VALUE):
        found = env.maps[insn.imm]
        if insn.src == isa.BPF_PSEUDO_MAP_FD:
            dst.mark_known_zero(R.CONST_PTR_TO_MAP)
            dst.map = found
        elif found.type != MapType.ARENA:
            dst.mark_known_zero(R.PTR_TO_MAP_VALUE)
            dst.map = found
            dst.off = second.imm
    elif insn.src == isa.BPF_PSEUDO_FUNC:
        callbacks.load_address(env, dst)
    else:
        env.not_modelled(f"ldimm64 of pseudo source {insn.src}")
    env.insn_idx += 1
    env.cur_aux.seen = True
