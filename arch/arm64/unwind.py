"""Stack traces of an arm64 kernel, by frame records.

Mirrors arch/arm64/kernel/stacktrace.c (kunwind_*, dump_backtrace). A record {fp, lr} of zeroes inside pt_regs is
followed by its kind: the last record of a task (user entry), or an exception boundary whose pt_regs give the
interrupted pc, printed with ` (P)`. The chain may go from one stack to another, and not back. Leaves out kretprobes and
function-graph tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from arch.arm64.oops import Regs, Symbolize

ReadWord = Callable[[int], int | None]

# arch/arm64/include/asm/stacktrace/frame.h
FRAME_META_TYPE_NONE, FRAME_META_TYPE_FINAL, FRAME_META_TYPE_PT_REGS = 0, 1, 2
# struct pt_regs: regs[31] sp pc pstate orig_x0/syscallno ... stackframe; offset of the frame record in it
S_SP, S_PC, S_PSTATE = 31 * 8, 32 * 8, 33 * 8


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry: `address` as printed, `flags` "P" where it is the pc of saved registers, else ""."""

    address: int
    flags: str = ""


def read_regs(read: ReadWord, address: int) -> Regs | None:
    """The registers of struct pt_regs at `address`, None where it is not readable."""
    values = [read(address + 8 * i) for i in range(34)]
    if None in values:
        return None
    good = [v for v in values if v is not None]
    return Regs(x=good[:31], sp=good[31], pc=good[32], pstate=good[33])


def unwind(
    regs: Regs,
    read: ReadWord,
    stack_of: Callable[[int], tuple[int, int] | None],
    stackframe_offset: int,
) -> Iterator[Frame]:
    """Frames from `regs` outwards, regs.pc first. `stackframe_offset` is offsetof(struct pt_regs, stackframe);
    `stack_of` gives the kernel stack (lowest address, end) that an address lies in."""
    yield Frame(regs.pc, "P")
    fp, low = regs.fp, 0
    stack, left = stack_of(fp), list[tuple[int, int]]()
    while fp and not fp & 7:
        if stack_of(fp) != stack and stack is not None:  # kunwind_next_stack()
            left.append(stack)
            stack, low = stack_of(fp), 0
        if stack is None or stack in left or fp <= low:
            return
        above, lr = read(fp), read(fp + 8)
        if above is None or lr is None:
            return
        if above == 0 and lr == 0:
            kind = read(fp + 16)
            if kind != FRAME_META_TYPE_PT_REGS:
                return
            saved = read_regs(read, fp - stackframe_offset)
            if saved is None:
                return
            yield Frame(saved.pc, "P")
            low, fp = fp, saved.fp
            continue
        yield Frame(lr)
        low, fp = fp, above


def call_trace(frames: list[Frame], symbolize: Symbolize) -> list[str]:
    """dump_backtrace(): `Call trace:` and one entry a line."""
    return ["Call trace:"] + [f" {symbolize(f.address)}" + (f" ({f.flags})" if f.flags else "") for f in frames]
