"""Open-coded iterators: their stack slots, and the two ways on from `next`.

Mirrors process_iter_arg(), mark_stack_slots_iter(), unmark_stack_slots_iter() and process_iter_next_call()
(kernel/bpf/verifier.c, 6.18). An iterator whose elements RCU protects (KF_RCU_PROTECTED on `_new`) is MEM_RCU in its
slots until its read section ends, and untrusted from then on.

An element that is a reference (KF_ACQUIRE on `_next`, series KF_FORBID_FAULT v5, never merged) belongs to the
iterator: the main slot's `id` is the element's reference, beside `ref_obj_id`, the iterator's own. It is given back by
the next `_next`, at the end of the iteration, by `_destroy`, or by a KF_RELEASE function that takes the iterator.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel_model.bpf.kfunc_ids import KF_ITER_DESTROY, KF_ITER_NEW, KF_RCU_PROTECTED
from kernel_model.bpf.verifier import mem, prune, refs
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import (
    ITER_ACTIVE,
    ITER_DRAINED,
    STACK_INVALID,
    STACK_ITER,
    Frame,
)
from kernel_model.bpf.verifier.states_equal import widen_imprecise_scalars

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

PREFIX = "bpf_iter_"


@dataclass(frozen=True, slots=True)
class IterSlot:
    """Where the iterator of a call lies."""

    frameno: int
    spi: int


def stack_object(env: Env, reg: Reg, nr_slots: int, kind: str, expected: str) -> tuple[int, bool]:
    """stack_slot_obj_get_spi(): index of the main slot, and whether the stack has been used that deep.

    `expected` is the line that follows the reason where the object cannot lie there.
    """
    if reg.var_off.mask:
        env.inval(f"{kind} has to be at a constant offset\n{expected}")
    off = reg.off + _signed(reg.var_off.value)
    spi = (-off - 1) // 8
    if off % 8 or off >= 0 or spi + 1 < nr_slots:
        env.inval(f"cannot pass in {kind} at an offset={off}\n{expected}")
    frame = env.func(reg)
    return spi, spi < len(frame.stack)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def process_arg(env: Env, regno: int, flags: int, name: str, size: int, function: str) -> IterSlot:
    """process_iter_arg(): argument `regno` of `function` is a pointer to `struct bpf_iter_<name>` of `size` bytes."""
    reg, arg = env.regs[regno], regno - 1
    if reg.type != R.PTR_TO_STACK:
        env.inval(f"{env.arg_name(arg)} expected pointer to an iterator on stack")
    nr_slots = size // 8
    fresh = "expected uninitialized" if flags & KF_ITER_NEW else "expected an initialized"
    expected = f"{fresh} iter_{name} as {env.arg_name(arg, 'arg #')}"
    spi, allocated = stack_object(env, reg, nr_slots, "iter", expected)
    frame = env.func(reg)
    if flags & KF_ITER_NEW:
        if allocated and any(STACK_ITER in frame.stack[spi - i].kinds for i in range(nr_slots)):
            env.inval(expected)
        for i in range(nr_slots):
            mem.access(env, regno, 8 * i, 8, True, None)
        protection = (R.MEM_RCU if env.in_rcu_cs else R.PTR_UNTRUSTED) if flags & KF_RCU_PROTECTED else 0
        _mark(env, frame, reg.frameno, spi, nr_slots, name, protection)
        return IterSlot(reg.frameno, spi)
    if allocated and frame.stack[spi].kinds[7] == STACK_ITER and frame.stack[spi].spilled.type & R.PTR_UNTRUSTED:
        env.fail(errno.EPROTO, f"expected an RCU CS when using {function}")
    if not allocated or not _initialized(frame, spi, nr_slots, name):
        env.inval(expected)
    for i in range(nr_slots):
        env.liveness.mark_read(reg.frameno, env.insn_idx, 1 << (spi - i))
        env.scratch_slot(spi - i)
    if flags & KF_ITER_DESTROY:
        _unmark(env, frame, reg.frameno, spi, nr_slots)
    return IterSlot(reg.frameno, spi)


def _initialized(frame: Frame, spi: int, nr_slots: int, name: str) -> bool:
    """is_iter_reg_valid_init()."""
    for i in range(nr_slots):
        slot = frame.stack[spi - i]
        if any(kind != STACK_ITER for kind in slot.kinds) or slot.spilled.iter_name != name:
            return False
        if bool(slot.spilled.ref_obj_id) != (i == 0):
            return False
    return True


def _mark(env: Env, frame: Frame, frameno: int, spi: int, nr_slots: int, name: str, protection: int) -> None:
    """mark_stack_slots_iter(): active, at depth 0, holding a reference."""
    ref_id = refs.acquire(env)
    for i in range(nr_slots):
        slot = frame.stack[spi - i]
        slot.spilled.mark_known_zero(R.PTR_TO_STACK | protection)
        slot.spilled.ref_obj_id = ref_id if i == 0 else 0
        slot.spilled.iter_name, slot.spilled.iter_state, slot.spilled.iter_depth = name, ITER_ACTIVE, 0
        slot.kinds[:] = bytes([STACK_ITER]) * 8
        env.liveness.mark_write(frameno, 1 << (spi - i))
        env.scratch_slot(spi - i)


def _unmark(env: Env, frame: Frame, frameno: int, spi: int, nr_slots: int) -> None:
    """unmark_stack_slots_iter()."""
    for i in range(nr_slots):
        slot = frame.stack[spi - i]
        if i == 0:
            release_element(env, slot.spilled)
            refs.release(env, slot.spilled.ref_obj_id)
        slot.spilled.mark_not_init()
        slot.kinds[:] = bytes([STACK_INVALID]) * 8
        env.liveness.mark_write(frameno, 1 << (spi - i))
        env.scratch_slot(spi - i)


def slot_reg(env: Env, where: IterSlot) -> Reg:
    """The record of the iterator's main slot."""
    return env.cur.frames[where.frameno].stack[where.spi].spilled


def release_element(env: Env, iterator: Reg) -> bool:
    """Give back the reference to the current element, forget pointers to it; False where there is none."""
    held, iterator.id = iterator.id, 0
    return bool(held) and refs.release(env, held)


def next_call(env: Env, where: IterSlot) -> None:
    """process_iter_next_call(): queue the path on which there is an element, go on with the one on which there is none.

    The queued path stays active, one deeper, with R0 not NULL; scalars that differ from the last round and did not
    matter there become unknown. The current one is drained, with R0 zero.
    """
    state = env.cur
    iterator = slot_reg(env, where)
    if iterator.iter_state == ITER_ACTIVE:
        parent = state.parent
        if parent is None or parent.insn_idx != env.insn_idx:
            env.bug("bad parent state for iter next call")
        previous = prune.find_prev_entry(env, parent, env.insn_idx)
        queued = env.push_stack(env.insn_idx + 1, env.insn_idx)
        ahead = queued.frames[where.frameno].stack[where.spi].spilled
        ahead.iter_state = ITER_ACTIVE
        ahead.iter_depth += 1
        if previous is not None:
            widen_imprecise_scalars(env, previous, queued)
        queued.frame.regs[0].type &= ~R.PTR_MAYBE_NULL
    elif iterator.iter_state != ITER_DRAINED:
        env.bug(f"unexpected iterator state {iterator.iter_state}")
    iterator.iter_state = ITER_DRAINED
    release_element(env, iterator)
    env.regs[0].mark_scalar(0)
