"""The BPF interpreter: an xlated program run in Python over guest memory, with the JITs' results.

Mirrors ___bpf_prog_run() (kernel/bpf/core.c) for ordinary instructions, and for what Linux leaves to JITs (arena
accesses, address-space casts) what their machine code does: the same faults are reported, the same registers
cleared. Leaves out tail calls and classic BPF.

Each instruction is bound once to a step (interp_steps.py). What a program asks of its surroundings may sleep: a run is
a generator that yields what the host says and goes on with what it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from arch.interface import JitArena
from kernel_model.bpf.fixups import TIMED_MAY_GOTO_CALL
from kernel_model.bpf.interp_steps import U64, ArenaFault, Binder, Memory, Step
from kernel_model.bpf.program import XlatedProg
from kernel_model.errors import BudgetExceededError, NotModelledError

MAX_CALL_FRAMES = 8  # include/linux/bpf_verifier.h


class Host(Protocol):
    """What a program reaches beyond its own instructions. `slot` is the instruction's place in the program, `callers`
    the slots of the calls that lead to its function, outermost first. Each method gives a request; the run yields it
    and is sent the result."""

    def call(self, slot: int, callers: Sequence[int], insn: Insn, args: tuple[int, int, int, int, int]) -> Any:
        """Call a helper (src 0) or kfunc (src 2); the result is R0."""
        ...

    def timed_may_goto(self, slot: int, callers: Sequence[int], counter: int) -> Any:
        """bpf_check_timed_may_goto() for the {count, timestamp} at address `counter`; the result is the new count."""
        ...

    def arena_fault(self, slot: int, callers: Sequence[int], address: int, write: bool) -> Any:
        """An arena access met no page: `address` is pointer plus offset as the program used it. No result."""
        ...


class Interpreter:
    """One program, bound to memory. `budget` is how many instructions a run may execute."""

    def __init__(
        self, prog: XlatedProg, memory: Memory, arena: JitArena | None = None, budget: int = 20_000_000,
        function_address: Callable[[int], int] | None = None,
    ) -> None:
        """`function_address` gives what kernel functions call a subprogram by, from the slot where it begins."""
        self._insns = prog.insns
        self._name = prog.name
        self._budget = budget
        self._depths = {f.start: f.stack_depth for f in prog.funcs}
        self._calls: dict[int, int] = {}  # slot of a call -> slot of the subprogram
        self._exits: set[int] = set()
        self._steps: list[Step | None] = []  # None: a call or an exit, which `run` itself knows
        binder = Binder(prog.insns, memory, arena, function_address)
        second = False
        for slot, insn in enumerate(self._insns):
            self._steps.append(self._unreachable if second else binder.bind(slot))
            if insn.cls == bpf.BPF_JMP and insn.op == bpf.BPF_EXIT:
                self._exits.add(slot)
            elif insn.cls == bpf.BPF_JMP and insn.op == bpf.BPF_CALL and insn.src == bpf.BPF_PSEUDO_CALL:
                self._calls[slot] = slot + 1 + insn.imm
            second = insn.is_ld_imm64
        self.executed = 0  # instructions of the last run

    def run(self, host: Host, context: int, stack: int, stack_size: int) -> Generator[Any, int, int]:
        """R0 at the main function's exit. `stack` is the lowest address of guest memory for the frames' stacks.

        Several runs may be under way at once.
        """
        frame_pointer = stack + stack_size
        r = [0] * 12
        r[1], r[10] = context, frame_pointer
        bottom = [frame_pointer - self._depth(0)]
        frames: list[list[int]] = []
        callers: list[int] = []
        steps, slot, left = self._steps, 0, self._budget
        while True:
            try:
                while True:
                    left -= 1
                    if left < 0:
                        raise BudgetExceededError(
                            f"BPF program {self._name}: the budget of {self._budget} instructions is used up"
                        )
                    step = steps[slot]
                    if step is not None:
                        slot = step(r)
                    elif slot in self._exits:
                        if not frames:
                            self.executed = self._budget - left
                            return r[0]
                        slot, r[6:11] = callers.pop() + 1, frames.pop()
                        bottom.pop()
                    elif slot in self._calls:
                        slot = self._enter(slot, r, frames, callers, bottom, stack)
                    else:
                        yield from self._ask(host, slot, callers, r)
                        slot += 1
            except ArenaFault as fault:
                slot, address, write = fault.slot, fault.address, fault.write
            yield host.arena_fault(slot, callers, address, write)
            slot += 1

    def _enter(
        self, slot: int, r: list[int], frames: list[list[int]], callers: list[int], bottom: list[int], stack: int
    ) -> int:
        """Call a subprogram: its first slot."""
        target = self._calls[slot]
        frames.append(r[6:11])
        callers.append(slot)
        low = bottom[-1] - self._depth(target)
        if low < stack or len(frames) >= MAX_CALL_FRAMES:
            raise NotModelledError(f"BPF program {self._name}: stack or calls too deep")
        r[10] = bottom[-1]
        bottom.append(low)
        return target

    def _ask(self, host: Host, slot: int, callers: list[int], r: list[int]) -> Generator[Any, int, None]:
        """A call that leaves the program."""
        insn = self._insns[slot]
        if insn.src == 0 and insn.imm == TIMED_MAY_GOTO_CALL:
            counter = (r[bpf.R10] + r[bpf.BPF_REG_AX]) & U64
            r[bpf.BPF_REG_AX] = (yield host.timed_may_goto(slot, callers, counter)) & U64
        else:
            r[0] = (yield host.call(slot, callers, insn, (r[1], r[2], r[3], r[4], r[5]))) & U64

    def _depth(self, start: int) -> int:
        return self._depths.get(start, 0) + 15 & -16

    @staticmethod
    def _unreachable(r: list[int]) -> int:
        raise AssertionError("the second slot of a 64-bit immediate is no instruction")
