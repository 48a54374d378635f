"""The verifier's log: its buffer and the text of registers and states.

Mirrors kernel/bpf/log.c (6.18): bpf_vlog_reset(), print_verifier_state(), print_insn_state(), verbose_linfo().
Levels: bit 1 each path (cut back at every pop, and to nothing on success), bit 2 everything, bit 4 statistics.
Left out: the rotating buffer and its size limits, BPF_LOG_FIXED, BPF_LOG_KERNEL.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel_model.bpf.program import LineInfo
from kernel_model.bpf.verifier import regs as R
from kernel_model.bpf.verifier.regs import Reg
from kernel_model.bpf.verifier.state import (
    ITER_STATE_NAMES,
    SLOT_LETTERS,
    STACK_ITER,
    STACK_SPILL,
    Frame,
    State,
)

LOG_LEVEL1, LOG_LEVEL2, LOG_STATS = 1, 2, 4
LOG_LEVEL = LOG_LEVEL1 | LOG_LEVEL2


class Log:
    """A text that grows at its end and can be cut back."""

    __slots__ = ("level", "_parts", "end_pos")

    def __init__(self, level: int) -> None:
        self.level = level
        self._parts: list[str] = []
        self.end_pos = 0

    def write(self, text: str) -> None:
        """Append, unless the level is 0."""
        if self.level:
            self._parts.append(text)
            self.end_pos += len(text)

    def reset(self, pos: int) -> None:
        """bpf_vlog_reset(): cut back to the first `pos` characters."""
        while self.end_pos > pos:
            last = self._parts.pop()
            self.end_pos -= len(last)
            if self.end_pos < pos:
                keep = last[: pos - self.end_pos]
                self._parts.append(keep)
                self.end_pos = pos

    @property
    def text(self) -> str:
        return "".join(self._parts)


def snum(value: int) -> str:
    """verbose_snum(): small numbers in decimal, others in hexadecimal of 64 bits."""
    value = value - (1 << 64) if value >= 1 << 63 else value
    return str(value) if -0x8000 <= value <= 0x7FFF else f"0x{value & R.U64_MAX:x}"


def unum(value: int) -> str:
    """verbose_unum()."""
    return str(value) if value <= 0xFFFF else f"0x{value:x}"


def _s32_as_printed(value: int) -> int:
    return value & R.U64_MAX if -0x8000 <= value <= 0x7FFF else value & R.U32_MAX


def scalar_ranges(reg: Reg) -> list[str]:
    """print_scalar_ranges(): bounds that say something; equal ones joined as `smin=smin32=0`."""
    entries: list[tuple[str, int, bool]] = [
        ("smin", reg.smin & R.U64_MAX, reg.smin == R.S64_MIN),
        ("smax", reg.smax & R.U64_MAX, reg.smax == R.S64_MAX),
        ("umin", reg.umin, reg.umin == 0),
        ("umax", reg.umax, reg.umax == R.U64_MAX),
        ("smin32", _s32_as_printed(reg.s32min), reg.s32min == R.S32_MIN),
        ("smax32", _s32_as_printed(reg.s32max), reg.s32max == R.S32_MAX),
        ("umin32", reg.u32min, reg.u32min == 0),
        ("umax32", reg.u32max, reg.u32max == R.U32_MAX),
    ]
    out: list[str] = []
    joined: set[str] = set()
    for i, (name, value, omit) in enumerate(entries):
        if omit or name in joined:
            continue
        signed = name[0] == "s"
        negative = signed and value >> 63 == 1
        text = f"{name}="
        for other, other_value, other_omit in entries[i + 2 :: 2]:
            if other_omit or other in joined or other_value != value:
                continue
            if (other[0] == "s" and other_value >> 63 == 1) != negative:
                continue
            joined.add(other)
            text += f"{other}="
        out.append(text + (snum(value) if signed else unum(value)))
    return out


def reg_text(reg: Reg, frameno: int) -> str:
    """print_reg_state()."""
    kind = reg.type
    precise = "P" if kind == R.SCALAR_VALUE and reg.precise else ""
    if kind == R.SCALAR_VALUE and not reg.var_off.mask:
        return precise + snum(reg.var_off.value)
    text = precise + R.type_str(kind)
    if kind == R.PTR_TO_ARENA:
        return text
    if kind == R.PTR_TO_STACK:
        if frameno != reg.frameno:
            text += f"[{reg.frameno}]"
        if not reg.var_off.mask:
            return text + snum((reg.var_off.value + reg.off) & R.U64_MAX)
    base = reg.base
    if base == R.PTR_TO_BTF_ID:
        text += reg.btf.name(reg.btf_id)
    attrs: list[str] = []
    if reg.id:
        delta = f"{reg.off:+d}" if reg.id & R.ADD_CONST else ""
        attrs.append(f"id={reg.id & ~R.ADD_CONST}{delta}")
    if reg.ref_obj_id:
        attrs.append(f"ref_obj_id={reg.ref_obj_id}")
    if kind & R.NON_OWN_REF:
        attrs.append("non_own_ref")
    if base in (R.CONST_PTR_TO_MAP, R.PTR_TO_MAP_VALUE, R.PTR_TO_MAP_KEY):
        if reg.map.name:
            attrs.append(f"map={reg.map.name}")
        attrs.append(f"ks={reg.map.key_size},vs={reg.map.value_size}")
    if kind != R.SCALAR_VALUE and reg.off:
        attrs.append(f"off={snum(reg.off & R.U64_MAX)}")
    if reg.is_pkt:
        attrs.append(f"r={unum(reg.range)}")
    if base == R.PTR_TO_MEM:
        attrs.append(f"sz={unum(reg.mem_size)}")
    if not reg.var_off.mask:
        if reg.var_off.value:
            attrs.append(f"imm={snum(reg.var_off.value)}")
    else:
        attrs += scalar_ranges(reg)
        if reg.var_off.mask != R.U64_MAX:
            attrs.append(f"var_off={reg.var_off}")
    return f"{text}({','.join(attrs)})"


def _slot_text(frame: Frame, i: int) -> str | None:
    slot = frame.stack[i]
    if not any(slot.kinds):
        return None
    letters = "".join(SLOT_LETTERS[k] for k in slot.kinds)
    where = f" fp{-(i + 1) * 8}="
    kind = slot.kinds[7]
    if kind == STACK_SPILL:
        return where + letters[: letters.index("r")] + reg_text(slot.spilled, frame.frameno)
    if kind == STACK_ITER:
        reg = slot.spilled
        if not reg.ref_obj_id:
            return None  # only the main slot is printed
        state = ITER_STATE_NAMES[reg.iter_state]
        return f"{where}iter_{reg.iter_name}(ref_id={reg.ref_obj_id},state={state},depth={reg.iter_depth})"
    return where + letters


def state_text(state: State, frameno: int, reg_mask: int = -1, slot_mask: int = -1) -> str:
    """print_verifier_state(): of one frame, registers and slots whose mask bit is set; ends with a newline."""
    frame = state.frames[frameno]
    parts = [f" frame{frame.frameno}:"] if frame.frameno else []
    for i, reg in enumerate(frame.regs):
        if reg.type != R.NOT_INIT and reg_mask >> i & 1:
            parts.append(f" R{i}={reg_text(reg, frame.frameno)}")
    for i in range(len(frame.stack)):
        if slot_mask >> i & 1:
            text = _slot_text(frame, i)
            if text:
                parts.append(text)
    if state.refs and state.refs[0].id:
        parts.append(" refs=" + ",".join(str(r.id) for r in state.refs if r.id))
    if frame.in_callback:
        parts.append(" cb")
    if frame.in_async_callback:
        parts.append(" async_cb")
    parts.append("\n")
    return "".join(parts)


def alignment(pos: int) -> int:
    """vlog_alignment(): blanks after an instruction of `pos` characters, up to the semicolon's column."""
    return (max(pos + 4, 40) + 7) // 8 * 8 - pos - 1


def stack_mask_text(mask: int) -> str:
    """bpf_fmt_stack_mask(): `-8,-16`."""
    return ",".join(str(-(i + 1) * 8) for i in range(64) if mask >> i & 1)


def reg_mask_text(mask: int) -> str:
    """fmt_reg_mask(): `r0,r6`."""
    return ",".join(f"r{i}" for i in range(11) if mask >> i & 1)


def find_line(lines: Sequence[LineInfo], insn_idx: int) -> LineInfo | None:
    """bpf_find_linfo(): the last record at or before `insn_idx`."""
    low, high = 0, len(lines)
    while low < high:
        mid = (low + high) // 2
        if lines[mid].insn_off <= insn_idx:
            low = mid + 1
        else:
            high = mid
    return lines[low - 1] if low else None

