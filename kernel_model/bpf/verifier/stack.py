"""The program's stack: spills, fills, bytes that are merely written.

Mirrors check_stack_write_fixed_off(), check_stack_read_fixed_off(), save_register_state() and
check_stack_range_initialized() (kernel/bpf/verifier.c, 6.18); accesses at a variable offset are in stack_var.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from kernel_model.bpf.verifier import precision, stack_var
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.alu import assign_scalar_id
from kernel_model.bpf.verifier.bounds import s64
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.stack_bounds import MAX_BPF_STACK, READABLE, check_alignment, reserve
from kernel_model.bpf.verifier.state import (
    SPECIAL_SLOTS,
    STACK_INVALID,
    STACK_MISC,
    STACK_SPILL,
    STACK_ZERO,
    Frame,
    Slot,
    stack_access_flags,
)

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env



def offset(reg: Reg, off: int) -> int:
    """Distance from the frame pointer of an access through `reg`, which has a constant offset."""
    return off + reg.off + s64(reg.var_off.value)


def check_bounds(env: Env, regno: int, reg: Reg, at: int, size: int, write: bool) -> Frame:
    """check_stack_access_within_bounds(): the frame, with room for the access."""
    if not at >= -MAX_BPF_STACK or at + size > 0:
        what = "write to" if write else "read from"
        starts_inside = -MAX_BPF_STACK <= at <= -1
        env.fail(errno.EINVAL if starts_inside else errno.EACCES,
                 f"invalid {what} stack R{regno} off={at} size={size}")
    return reserve(env, reg, -at)


def _save(frame: Frame, spi: int, reg: Reg, size: int) -> None:
    """save_register_state()."""
    slot = frame.stack[spi]
    slot.spilled = reg.copy()
    for i in range(7, -1, -1):
        if i >= 8 - size:
            slot.kinds[i] = STACK_SPILL
        elif slot.kinds[i] not in (STACK_ZERO, STACK_INVALID):
            slot.kinds[i] = STACK_MISC


def write(env: Env, regno: int, off: int, size: int, value: int | None) -> None:
    """A store of register `value`, or of an immediate or unknown bytes where it is None."""
    base = env.regs[regno]
    check_alignment(env, base, off, size)
    if base.var_off.mask:
        stack_var.write(env, regno, off, size, value)
        return
    at = offset(base, off)
    frame = check_bounds(env, regno, base, at, size, True)
    spi = (-at - 1) // 8
    env.scratch_slot(spi)
    if size == 8:
        env.liveness.mark_write(frame.frameno, 1 << spi)
    reg = env.regs[value] if value is not None else None
    insn = env.insn
    immediate = reg is None and insn.cls == isa.BPF_ST and insn.mode == isa.BPF_MEM
    if reg is not None and at % 8 == 0 and reg.type == R.SCALAR_VALUE:
        fits = reg.width() <= size * 8
        if fits:
            assign_scalar_id(env, reg)
        _save(frame, spi, reg, size)
        if not fits:
            frame.stack[spi].spilled.id = 0
    elif immediate and at % 8 == 0:
        fake = Reg(R.SCALAR_VALUE)
        fake.mark_scalar(insn.imm)
        _save(frame, spi, fake, size)
    elif reg is not None and reg.type != R.SCALAR_VALUE:
        if size != 8:
            env.access("invalid size of register spill")
        if reg.type == R.PTR_TO_STACK and frame is not env.cur.frames[env.cur.curframe]:
            env.inval("cannot spill pointers to stack into stack frame of the caller")
        _save(frame, spi, reg, 8)
    else:
        zero = reg.is_null() if reg is not None else immediate and insn.imm == 0
        if zero and value is not None:
            precision.mark(env, value)
        _scrub(frame.stack[spi], at, size, STACK_ZERO if zero else STACK_MISC)
        return
    env.push_jump(env.cur, stack_access_flags(frame.frameno, spi))


def _scrub(slot: Slot, at: int, size: int, kind: int) -> None:
    """Bytes of a slot that a plain store overwrites; what was spilled there is no register any more."""
    if slot.kinds[7] in SPECIAL_SLOTS:
        for i in range(8):
            if slot.kinds[i] != STACK_INVALID:
                slot.kinds[i] = STACK_MISC
    slot.spilled.mark_not_init()
    first = (-at - 1) % 8
    for i in range(size):
        slot.kinds[(first - i) % 8] = kind


def read(env: Env, regno: int, off: int, size: int, dst: int) -> None:
    """A load into register `dst`."""
    base = env.regs[regno]
    check_alignment(env, base, off, size)
    if base.var_off.mask:
        stack_var.read(env, regno, off, size, dst)
        return
    at = offset(base, off)
    frame = check_bounds(env, regno, base, at, size, False)
    spi = (-at - 1) // 8
    slot = frame.stack[spi]
    env.scratch_slot(spi)
    env.liveness.mark_read(frame.frameno, env.insn_idx, 1 << spi)
    target = env.regs[dst]
    if slot.is_spill:
        if _fill(env, slot, at, size, target):
            env.push_jump(env.cur, stack_access_flags(frame.frameno, spi))
        return
    kinds = _bytes(slot, at, size)
    if any(k not in (STACK_MISC, STACK_ZERO, STACK_INVALID) for k in kinds):
        env.access(f"invalid read from stack off {at}+0 size {size}")
    if all(k == STACK_ZERO for k in kinds):
        target.mark_scalar(0)
    else:
        target.mark_unknown()


def _bytes(slot: Slot, at: int, size: int) -> list[int]:
    first = (-at - 1) % 8
    return [slot.kinds[(first - i) % 8] for i in range(size)]


def _fill(env: Env, slot: Slot, at: int, size: int, target: Reg) -> bool:
    """Part or all of a spilled register; True where the register's knowledge comes with it."""
    spilled = slot.spilled
    spill_size = 1
    while spill_size < 8 and slot.kinds[7 - spill_size] == STACK_SPILL:
        spill_size += 1
    if size == 8 and spill_size == 8:
        target.assign(spilled)
        return True
    if spilled.type != R.SCALAR_VALUE:
        env.access("invalid size of register fill")
    if size <= spill_size and at % 8 == 0:
        fits = spilled.width() <= size * 8
        target.assign(spilled)
        if not fits:
            target.id = 0
        return True
    kinds = _bytes(slot, at, size)
    if any(k not in (STACK_SPILL, STACK_MISC, STACK_ZERO, STACK_INVALID) for k in kinds):
        env.access(f"invalid read from stack off {at}+0 size {size}")
    zero = spilled.is_null()
    if all(k == STACK_ZERO or (k == STACK_SPILL and zero) for k in kinds) and any(kinds):
        if STACK_SPILL in kinds:
            spilled.precise = True
        target.mark_scalar(0)
    else:
        target.mark_unknown()
    return False


def helper_access(env: Env, regno: int, size: int, writes: bool, raw: bool = False) -> None:
    """check_stack_range_initialized(): a function reads, or clobbers, `size` bytes; what was spilled there is lost.

    `raw`: a helper promises to write all of it, so what was there does not matter.
    """
    base = env.regs[regno]
    if base.var_off.mask:
        low, high, raw = base.smin + base.off, base.smax + base.off, False
        frame = stack_var.check_bounds(env, regno, base, 0, size, writes)
    else:
        low = high = offset(base, 0)
        if size == 0:
            return
        frame = check_bounds(env, regno, base, low, size, writes)
    for byte in range(low, high + size):
        spi = (-byte - 1) // 8
        slot = frame.stack[spi]
        if raw:
            env.scratch_slot(spi)
            _scrub(slot, byte, 1, STACK_MISC)
            continue
        if slot.kinds[(-byte - 1) % 8] not in READABLE:
            where = f"var_off {base.var_off}" if base.var_off.mask else f"off {low}"
            env.access(f"invalid read from stack R{regno} {where}+{byte - low} size {size}")
        if writes:
            _scrub(slot, byte, 1, STACK_MISC)
        env.liveness.mark_read(frame.frameno, env.insn_idx, 1 << spi)
