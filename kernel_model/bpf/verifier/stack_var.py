"""Accesses to the program's stack at an offset of which only the range is known.

Mirrors check_stack_write_var_off(), check_stack_read_var_off() and the variable part of
check_stack_access_within_bounds() (kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from kernel_model.bpf.verifier import precision
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.stack_bounds import MAX_BPF_STACK, READABLE, reserve
from kernel_model.bpf.verifier.state import STACK_MISC, STACK_SPILL, STACK_ZERO, Frame

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

BPF_MAX_VAR_OFF = 1 << 29


def check_bounds(env: Env, regno: int, reg: Reg, off: int, size: int, write: bool) -> Frame:
    """The frame, with room for the access wherever it goes."""
    what = "write to" if write else "read from"
    if reg.smax >= BPF_MAX_VAR_OFF or reg.smin <= -BPF_MAX_VAR_OFF:
        env.access(f"invalid unbounded variable-offset {what} stack R{regno}")
    low, high = reg.smin + reg.off + off, reg.smax + reg.off + off + size
    if low < -MAX_BPF_STACK or low > -1 or high > 0:
        text = f"invalid variable-offset {what} stack R{regno} var_off={reg.var_off} off={reg.off + off} size={size}"
        if -MAX_BPF_STACK <= low <= -1:
            env.inval(text)
        env.access(text)
    return reserve(env, reg, -low)


def read(env: Env, regno: int, off: int, size: int, dst: int) -> None:
    """A load into register `dst`: zero where all of the range is zero, else unknown."""
    base = env.regs[regno]
    frame = check_bounds(env, regno, base, off, size, False)
    low, high = base.smin + base.off + off, base.smax + base.off + off + size
    for byte in range(low, high):
        spi = (-byte - 1) // 8
        if frame.stack[spi].kinds[(-byte - 1) % 8] not in READABLE:
            env.access(f"invalid read from stack R{regno} var_off {base.var_off}+{byte - low} size {size}")
        env.liveness.mark_read(frame.frameno, env.insn_idx, 1 << spi)
    target = env.regs[dst]
    for byte in range(low, high):
        spi = (-byte - 1) // 8
        env.scratch_slot(spi)
        if frame.stack[spi].kinds[(-byte - 1) % 8] != STACK_ZERO:
            target.mark_unknown()
            return
    target.mark_scalar(0)
    target.precise = True  # __mark_reg_const_zero()


def write(env: Env, regno: int, off: int, size: int, value: int | None) -> None:
    """A store of register `value`, of an immediate or unknown bytes where it is None: any of the range may change."""
    base, insn = env.regs[regno], env.insn
    frame = check_bounds(env, regno, base, off, size, True)
    reg = env.regs[value] if value is not None else None
    immediate = reg is None and insn.cls == isa.BPF_ST and insn.mode == isa.BPF_MEM
    zero = reg.is_null() if reg is not None else immediate and insn.imm == 0
    zero_used = False
    for byte in range(base.smin + base.off + off, base.smax + base.off + off + size):
        spi, at = (-byte - 1) // 8, (-byte - 1) % 8
        slot = frame.stack[spi]
        env.scratch_slot(spi)
        if zero and slot.kinds[at] == STACK_SPILL and slot.is_spilled_scalar and slot.spilled.is_null():
            zero_used = True
            continue
        slot.spilled.mark_not_init()
        for i, kind in enumerate(slot.kinds):
            if kind == STACK_SPILL and i != at:
                slot.kinds[i] = STACK_MISC
        if zero and slot.kinds[at] == STACK_ZERO:
            zero_used = True
        else:
            slot.kinds[at] = STACK_MISC
    if zero_used and value is not None:
        precision.mark(env, value)


__all__ = ["check_bounds", "read", "write"]
