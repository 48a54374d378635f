"""What every access to the program's stack is checked for first.

Mirrors check_generic_ptr_alignment() for the stack and grow_stack_state() (kernel/bpf/verifier.c, 6.18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier import tnum
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import STACK_INVALID, STACK_MISC, STACK_SPILL, STACK_ZERO, Frame

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

MAX_BPF_STACK = 512
READABLE = (STACK_INVALID, STACK_MISC, STACK_ZERO, STACK_SPILL)


def check_alignment(env: Env, reg: Reg, off: int, size: int) -> None:
    """check_generic_ptr_alignment() of the stack: every offset that the access may have is a multiple of its size."""
    at = tnum.add(reg.var_off, tnum.const((reg.off + off) & R.U64_MAX))
    if (at.value | at.mask) & (size - 1):
        where = str(reg.var_off) if reg.var_off.mask else f"{reg.var_off.value:#x}" if reg.var_off.value else "0"
        env.access(f"misaligned stack access off {where}+{reg.off}+{off} size {size}")


def reserve(env: Env, reg: Reg, depth: int) -> Frame:
    """grow_stack_state(): the frame that `reg` points into, at least `depth` bytes deep."""
    frame = env.func(reg)
    frame.grow((depth + 7) // 8)
    sub = env.subprogs[frame.subprogno]
    sub.stack_depth = max(sub.stack_depth, depth)
    return frame
