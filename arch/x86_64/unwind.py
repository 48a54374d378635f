"""Stack traces of an x86-64 kernel: which return addresses are real, which are stale words.

Mirrors arch/x86/kernel/dumpstack.c (show_trace_log_lvl): every word of the stack that looks like kernel text is
printed, with `? ` unless the unwinder reached it. The unwinder follows frame pointers with encoded pt_regs
(arch/x86/kernel/unwind_frame.c) but starts as precisely as ORC does: inside a prologue, at ip 0, and not at all
where ip is outside any text (unwind_orc.c), because that is what the golden texts show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from arch.x86_64.oops import PT_REGS_FIELDS, PT_REGS_SIZE, ReadCode, Regs, Symbolize, short_regs

ReadWord = Callable[[int], int | None]  # 8-byte aligned kernel address -> value, None where unmapped

_ENTRY_CALL = 5  # length of the call that a traced function begins with
_NOP5 = bytes.fromhex("0f1f440000")
_MOV_RBP_RSP = bytes.fromhex("554889e5")


@dataclass(frozen=True, slots=True)
class Stack:
    """One kernel stack, [low, high), and the name that brackets its entries: TASK, IRQ, #DF, ..."""

    name: str
    low: int
    high: int

    def __contains__(self, address: int) -> bool:
        return self.low <= address < self.high


@dataclass(frozen=True, slots=True)
class Frame:
    """One step of the unwinder: a return address, where it was read, and pt_regs met on the way to it."""

    address: int
    slot: int
    entry_regs: Regs | None = None  # exception or syscall entry registers found above this frame


def read_regs(read: ReadWord, address: int) -> Regs | None:
    """struct pt_regs at `address`, None where it is not readable."""
    values = [read(address + 8 * i) for i in range(len(PT_REGS_FIELDS))]
    return None if None in values else Regs(*[v for v in values if v is not None])


def unwind(
    regs: Regs,
    read: ReadWord,
    is_text: Callable[[int], bool],
    function_offset: Callable[[int], int | None],
    read_code: ReadCode,
    user_regs_at: int | None,
    irq_stacks: Sequence[Stack] = (),
) -> Iterator[Frame]:
    """Frames from `regs` outwards, the function of regs.ip itself not included.

    `function_offset` gives an address's offset in its function; `user_regs_at` is task_pt_regs(), where a chain
    that has no more frames ends in a system call. Frames lie one above the other, except that those of an interrupt, on
    one of `irq_stacks`, are followed by those of what it interrupted, wherever they lie.
    """
    start = _first_frame(regs, read, is_text, function_offset, read_code)
    if start is None:
        return
    slot, bp = start
    while True:
        address = read(slot)
        if address is None or not is_text(address):
            return
        entry: Regs | None = None
        if function_offset(address) == _ENTRY_CALL and read_code(address - _ENTRY_CALL, 1) == b"\xe8":
            yield Frame(address, slot)  # a traced function calls its trampoline before it has a frame
            slot += 8
            continue
        if bp & 1:
            entry = read_regs(read, bp & ~1)
        elif bp == 0 and user_regs_at is not None:
            entry = read_regs(read, user_regs_at)
        yield Frame(address, slot, entry)
        if entry is not None:
            if entry.user_mode:
                return
            following = _first_frame(entry, read, is_text, function_offset, read_code)
            if following is None:
                return
            slot, bp = following
            continue
        if bp <= slot and not any(slot in stack and bp not in stack for stack in irq_stacks):
            return
        slot = bp + 8
        above = read(bp)
        if above is None:
            return
        bp = above


def _first_frame(
    regs: Regs,
    read: ReadWord,
    is_text: Callable[[int], bool],
    function_offset: Callable[[int], int | None],
    read_code: ReadCode,
) -> tuple[int, int] | None:
    """(slot of the first return address, frame pointer that is valid above it), None where ORC has no data."""
    if regs.ip == 0:
        return regs.sp, regs.bp
    if not is_text(regs.ip):
        return None
    offset = function_offset(regs.ip)
    if offset is not None and offset <= _ENTRY_CALL + 4:
        if _is_entry(read_code(regs.ip - offset, _ENTRY_CALL)):
            offset = max(offset - _ENTRY_CALL, 0)  # a function that can be traced begins behind that
        if offset == 0:
            return regs.sp, regs.bp
        if offset < 4 and read_code(regs.ip - offset, 4) == _MOV_RBP_RSP:
            return regs.sp + 8, regs.bp
    above = read(regs.bp)
    if above is None:
        return None
    return regs.bp + 8, above


def _is_entry(code: bytes | None) -> bool:
    """Whether a function that begins with `code` can be traced: a nop, or the call of a trampoline."""
    return code is not None and len(code) == _ENTRY_CALL and (code == _NOP5 or code[0] == 0xE8)


def call_trace(
    regs: Regs,
    stacks: list[Stack],
    frames: list[Frame],
    read: ReadWord,
    is_text: Callable[[int], bool],
    symbolize: Symbolize,
    read_code: ReadCode,
) -> list[str]:
    """show_trace_log_lvl(): from `Call Trace:` to the last closing bracket.

    `symbolize` is given return addresses; `frames` is what unwind() found for the same registers.
    """
    lines = ["Call Trace:"]
    by_slot = {frame.slot: frame for frame in frames}
    position = regs.sp & ~7
    if not any(position in s for s in stacks):
        position = (position + 4095) & ~4095  # it ran over into the guard page: go on at the stack's end
    while True:
        stack = next((s for s in stacks if position in s), None)
        if stack is None:
            break
        lines.append(f" <{stack.name}>")
        resume: int | None = None
        skip_to = 0
        while position < stack.high:
            frame = by_slot.get(position)
            value = read(position)
            if frame is not None:
                lines.append(f" {symbolize(frame.address)}")
                if frame.entry_regs is not None:
                    lines += short_regs(frame.entry_regs, symbolize, read_code)
                    if frame.entry_regs.user_mode:
                        position = stack.high
                        break
                    if frame.entry_regs.sp not in stack:
                        resume = frame.entry_regs.sp
                        break
                    skip_to = frame.entry_regs.sp
            elif position == stack.high - 8 and stack.name == "IRQ":
                resume = value  # next_sp: where the interrupted task's stack was
                break
            elif position >= skip_to and value is not None and is_text(value):
                lines.append(f" ? {symbolize(value)}")
            position = max(position + 8, skip_to)
        lines.append(f" </{stack.name}>")
        if resume is None:
            break
        position = resume
    return lines


__all__ = ["PT_REGS_SIZE", "Frame", "Stack", "call_trace", "read_regs", "unwind"]
