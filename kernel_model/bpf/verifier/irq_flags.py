"""Interrupt flags that bpf_local_irq_save() keeps on the stack.

Mirrors process_irq_flag(), mark_stack_slot_irq_flag(), unmark_stack_slot_irq_flag(), release_irq_state()
(kernel/bpf/verifier.c, 6.18). Left out: bpf_res_spin_lock_irqsave(), hence the class of a flag.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import iters, mem, refs
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.state import REF_IRQ, SPECIAL_SLOTS, STACK_INVALID, STACK_IRQ_FLAG, STACK_SPILL

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

SAVE, RESTORE = "bpf_local_irq_save", "bpf_local_irq_restore"


def process_arg(env: Env, regno: int, save: bool) -> None:
    """process_irq_flag(): argument `regno` points to the flags; `save` is bpf_local_irq_save()."""
    reg, arg = env.regs[regno], regno - 1
    if reg.type != R.PTR_TO_STACK:
        env.inval(f"{env.arg_name(arg)} doesn't point to an irq flag on stack")
    expected = f"{'expected uninitialized' if save else 'expected an initialized'} irq flag as {env.arg_name(arg)}"
    spi, allocated = iters.stack_object(env, reg, 1, "irq_flag", expected)
    frame = env.func(reg)
    if save:
        kinds = frame.stack[spi].kinds if allocated else b""
        if any(kind in SPECIAL_SLOTS and kind != STACK_SPILL for kind in kinds):
            env.inval(expected)
        mem.access(env, regno, 0, 8, True, None)
        slot = frame.stack[spi]
        slot.spilled.mark_known_zero(R.PTR_TO_STACK)
        slot.spilled.ref_obj_id = env.cur.active_irq_id = refs.acquire(env, REF_IRQ)
        slot.kinds[:] = bytes([STACK_IRQ_FLAG]) * 8
        env.liveness.mark_write(reg.frameno, 1 << spi)
        env.scratch_slot(spi)
        return
    if not allocated or any(kind != STACK_IRQ_FLAG for kind in frame.stack[spi].kinds):
        env.inval(expected)
    env.liveness.mark_read(reg.frameno, env.insn_idx, 1 << spi)
    env.scratch_slot(spi)
    slot = frame.stack[spi]
    _restore(env, slot.spilled.ref_obj_id)
    slot.spilled.mark_not_init()
    slot.kinds[:] = bytes([STACK_INVALID]) * 8
    env.liveness.mark_write(reg.frameno, 1 << spi)


def _restore(env: Env, flag: int) -> None:
    """release_irq_state(): the last saved is the first restored."""
    state = env.cur
    saved = [ref for ref in state.refs if ref.kind == REF_IRQ]
    if flag != state.active_irq_id:
        last = next(ref for ref in saved if ref.id == state.active_irq_id)
        env.fail(errno.EACCES, "cannot restore irq state out of order, expected "
                               f"id={last.id} acquired at insn_idx={last.insn_idx}")
    refs.drop(state, saved[-1])
    state.active_irq_id = saved[-2].id if len(saved) > 1 else 0
