"""Functions of the program that helpers call: bpf_loop(), bpf_find_vma().

Mirrors push_callback_call(), set_loop_callback_state(), set_find_vma_callback_state(), update_loop_inline_state()
and what check_helper_call() does about them (kernel/bpf/verifier.c, 6.18). The walk goes on behind the call and, as a
path of its own, into the callback; where the callback returns it comes back to the call, which sends it in again until
a state recurs. Left out: other helpers with callbacks, asynchronous ones, and the inlining of bpf_loop().
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import global_funcs, precision, prune
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.kinds import FUNC_FIND_VMA, FUNC_LOOP
from kernel_model.bpf.verifier.state import MAX_CALL_FRAMES, Frame
from kernel_model.bpf.verifier.states_equal import widen_imprecise_scalars
from kernel_model.types import Kind

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

_GO_ON_OR_STOP = (0, 1)  # what these callbacks may return
SetState = Callable[["Env", Frame, Frame], None]


def load_address(env: Env, dst: R.Reg) -> None:
    """check_ld_imm() of BPF_PSEUDO_FUNC: `dst` becomes the address of a static function."""
    number = env.find_subprog(env.insn_idx + env.insn.imm + 1)
    if not env.prog.func_info:
        env.inval("missing btf func_info")
    if env.subprogs[number].is_global:
        env.inval("callback function not static")
    dst.mark_known_zero(R.PTR_TO_FUNC)
    dst.subprogno = number


def check_helper(env: Env, helper: int, callback: int) -> None:
    """The part of check_helper_call() for helpers with callbacks; `callback` is the function's number."""
    if helper == FUNC_LOOP:
        _check_loop(env, callback)
    elif helper == FUNC_FIND_VMA:
        _push_call(env, callback, _find_vma_state)


def _check_loop(env: Env, callback: int) -> None:
    _remember_inline(env)
    precision.mark(env, 1)  # whether another round is due hangs on it
    frame = env.cur.frame
    if frame.callback_depth < env.regs[1].umax:
        _push_call(env, callback, _loop_state)
        return
    frame.callback_depth = 0
    if env.log2:
        env.verbose(f"frame{env.cur.curframe} bpf_loop iteration limit reached\n")


def _remember_inline(env: Env) -> None:
    """update_loop_inline_state(), for what it does to precision: inlining needs flags that are surely zero."""
    aux = env.cur_aux
    if aux.loop_flags_zero is False:
        return
    aux.loop_flags_zero = env.regs[4].is_null()
    if aux.loop_flags_zero:
        precision.mark(env, 4)


def _push_call(env: Env, number: int, set_state: SetState) -> None:
    """push_callback_call() of a synchronous callback."""
    caller = env.cur.frame
    refused = global_funcs.check_call(env, number)
    if refused is not None and refused.errno == errno.EFAULT:
        raise refused
    sub = env.subprogs[number]
    sub.is_callback = True
    state = env.push_stack(sub.start, env.insn_idx)
    if state.curframe + 1 >= MAX_CALL_FRAMES:
        env.fail(errno.E2BIG, f"the call stack of {state.curframe + 2} frames is too deep")
    callee = Frame(env.insn_idx, state.curframe + 1, number)
    set_state(env, state.frame, callee)
    callee.in_callback = True
    callee.callback_ret = _GO_ON_OR_STOP
    state.frame.callback_depth += 1
    state.frames.append(callee)
    state.curframe += 1
    state.callback_unroll_depth += 1
    caller.callback_depth = 0
    env.scratch_all()


def _loop_state(env: Env, caller: Frame, callee: Frame) -> None:
    """callback_fn(u64 index, void *callback_ctx)."""
    callee.regs[1].mark_unknown()
    callee.regs[2] = caller.regs[3].copy()


def _find_vma_state(env: Env, caller: Frame, callee: Frame) -> None:
    """callback_fn(struct task_struct *task, struct vm_area_struct *vma, void *callback_ctx)."""
    callee.regs[1] = caller.regs[1].copy()
    found = env.vmlinux.find("vm_area_struct", Kind.STRUCT) if env.vmlinux is not None else None
    if found is None:
        env.bug("no type of VMAs")
    callee.regs[2].mark_known_zero(R.PTR_TO_BTF_ID)
    callee.regs[2].btf, callee.regs[2].btf_id = env.vmlinux, found.id
    callee.regs[3] = caller.regs[4].copy()


def check_result(env: Env, result: R.Reg, callee: Frame) -> None:
    """The part of prepare_func_exit() for callbacks: R0 says whether to go on."""
    if result.type != R.SCALAR_VALUE:
        env.access("R0 not a scalar value")
    precision.mark(env, 0)
    low, high = callee.callback_ret
    if low <= result.smin and result.smax <= high:
        return
    known = f" smin={result.smin}" if result.smin > R.S64_MIN else ""
    known += f" smax={result.smax}" if result.smax < R.S64_MAX else ""
    env.inval(f"At callback return the register R0 has{known or ' unknown scalar value'} "
              f"should have been in [{low}, {high}]")


def widen(env: Env) -> None:
    """Back at the call: scalars that differ from the last time and did not matter become unknown."""
    previous = prune.find_prev_entry(env, env.cur, env.insn_idx)
    if previous is not None:
        widen_imprecise_scalars(env, previous, env.cur)
