"""Calls between the program's own functions, and the ends of functions.

Mirrors check_func_call(), setup_func_entry(), prepare_func_exit(), check_max_stack_depth() (kernel/bpf/verifier.c,
6.18).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import callbacks, global_funcs, kinds, refs, regions, tracing
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.errors import Reject
from kernel_model.bpf.verifier.state import MAX_CALL_FRAMES, Frame

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

MAX_BPF_STACK = 512


def check_call(env: Env) -> None:
    """check_func_call(): into a static function the walk goes on; a global one is taken at its prototype's word."""
    state, insn = env.cur, env.insn
    target = env.insn_idx + insn.imm + 1
    number = env.find_subprog(target)
    refused = global_funcs.check_call(env, number)
    if refused is not None and refused.errno == errno.EFAULT:
        raise refused
    if env.subprogs[number].is_global:
        _call_global(env, number, refused)
        return
    if state.curframe + 1 >= MAX_CALL_FRAMES:
        env.fail(errno.E2BIG, f"the call stack of {state.curframe + 2} frames is too deep")
    caller = state.frames[state.curframe]
    callee = Frame(env.insn_idx, state.curframe + 1, number)
    for i in range(1, 6):
        callee.regs[i] = caller.regs[i].copy()
    env.clear_caller_saved(caller)
    state.frames.append(callee)
    state.curframe += 1
    env.insn_idx = target - 1
    env.scratch_all()
    env.liveness.reset_callchain()
    if env.log1:
        env.verbose("caller:\n")
        env.print_state(state, caller.frameno)
        env.verbose("callee:\n")
        env.print_state(state, callee.frameno)


def _call_global(env: Env, number: int, refused: Reject | None) -> None:
    """It is verified by itself, afterwards."""
    sub = env.subprogs[number]
    if env.cur.active_locks:
        env.inval("global function calls are not allowed while holding a lock,\nuse static function instead")
    if sub.might_sleep:
        regions.check_global(env, sub.name)
    if refused is not None:
        text = f"Caller passes invalid args into func#{number} ('{sub.name}')"
        env.fail(refused.errno, text)
    if env.log1:
        env.verbose(f"Func#{number} ('{sub.name}') is global and assumed valid.\n")
    sub.called = True
    env.clear_caller_saved(env.cur.frame)
    env.regs[0].mark_unknown()


def return_to_caller(env: Env) -> None:
    """prepare_func_exit(): R0 goes to the caller, the frame goes."""
    state = env.cur
    callee, caller = state.frames[state.curframe], state.frames[state.curframe - 1]
    result = callee.regs[0]  # may be unset: clang drops the value of a function whose result it knows
    in_callback = callee.in_callback
    if result.type == R.PTR_TO_STACK:
        env.inval("cannot return stack pointer to the caller")
    env.liveness.update()
    if in_callback:
        callbacks.check_result(env, result, callee)
    else:
        caller.regs[0] = result.copy()
    env.insn_idx = callee.callsite if in_callback else callee.callsite + 1
    if env.log1:
        env.verbose("returning from callee:\n")
        env.print_state(state, callee.frameno)
        env.verbose(f"to caller at {env.insn_idx}:\n")
        env.print_state(state, caller.frameno)
    state.frames.pop()
    state.curframe -= 1
    env.liveness.reset_callchain()
    if in_callback:
        callbacks.widen(env)


def check_exit(env: Env) -> bool:
    """BPF_EXIT: True where the whole program ends here, False where the walk goes on in a caller."""
    insn = env.insn
    if insn.is_reg or insn.imm or insn.src or insn.dst:
        env.inval("BPF_EXIT uses reserved fields")
    if env.cur.curframe:
        return_to_caller(env)
        return False
    refs.check_leak(env, "BPF_EXIT instruction in main prog")
    env.reg_read(0)
    tracing.check_return(env)
    return True


def check_max_stack_depth(env: Env) -> None:
    """check_max_stack_depth(): along every chain of calls, frames rounded to 16 bytes, at most 512."""
    callees: dict[int, list[int]] = {}
    for number, sub in enumerate(env.subprogs):
        callees[number] = [
            env.find_subprog(i + env.insns[i].imm + 1) for i in range(sub.start, sub.end)
            if kinds.is_pseudo_call(env.insns[i]) or kinds.is_pseudo_func(env.insns[i])
        ]

    def walk(number: int, depth: int, frames: tuple[int, ...]) -> None:
        if number in frames:
            env.inval("recursive call from insn to itself")
        total = depth + max(16, (env.subprogs[number].stack_depth + 15) & ~15)
        if total > MAX_BPF_STACK:
            env.access(f"combined stack size of {len(frames) + 1} calls is {total}. Too large")
        if len(frames) + 1 > MAX_CALL_FRAMES:
            env.fail(7, f"the call stack of {len(frames) + 1} frames is too deep !")
        for callee in callees[number]:
            walk(callee, total, (*frames, number))

    walk(0, 0, ())
