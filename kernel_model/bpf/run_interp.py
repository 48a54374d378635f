"""The interpreter as an engine: programs of one kernel run by Python, with the frames that their JITed code would have.

Mirrors bpf_prog_run() with a prog->bpf_func of ___bpf_prog_run(). A guest function that an interpreted program calls
finds the address behind the JITed call as its return address and a frame chain through the JITed functions, so
that bpf_prog_find_from_stack() and stack dumps see the same program as with the JIT. A fault of the program's own
arena access does not happen in the guest; it is reported below the frames that the page fault would have had. What a
program calls runs on its task's stack and may sleep; the same program may be under way in several tasks. Functions of
the program that a helper calls back run as JITed code.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from arch.bpf_isa import Insn
from arch.interface import JitArena
from kernel_model.bpf.interp import Interpreter
from kernel_model.errors import KemuError
from kernel_model.sched.requests import GuestCall, Sleeping

STACK_SIZE = 8 * 512
_LONGEST = 512  # bytes of a kernel function that are searched for a call
# (function, what it calls), from the exception's entry to the report of an arena fault
_FAULT_CALLS = {
    "x86_64": [
        ("asm_exc_page_fault", "exc_page_fault"), ("exc_page_fault", "kernelmode_fixup_or_oops.constprop.0"),
        ("kernelmode_fixup_or_oops.constprop.0", "fixup_exception"), ("fixup_exception", "ex_handler_bpf"),
        ("ex_handler_bpf", "bpf_prog_report_arena_violation"),
    ],
    "arm64": [
        ("el1h_64_sync", "el1h_64_sync_handler"), ("el1h_64_sync_handler", "el1_abort"), ("el1_abort", "do_mem_abort"),
        ("do_mem_abort", "do_translation_fault"), ("do_translation_fault", "do_bad_area"),
        ("do_bad_area", "__do_kernel_fault"), ("__do_kernel_fault", "fixup_exception"),
        ("fixup_exception", "ex_handler_bpf"),
        ("ex_handler_bpf", "bpf_prog_report_arena_violation"),
    ],
}
# bytes that the JIT emits behind the call instruction itself: arm64 moves x0 to R0's register
_BEHIND_CALL = {"x86_64": 0, "arm64": 4}


class InterpretedProg:
    """One loaded program. `prog` is a kernel_model.bpf.prog.Prog, `symbol` gives a kernel function's address."""

    def __init__(self, host: Any, prog: Any, symbol: Callable[[Insn], int]) -> None:
        self._host = host
        self._prog = prog
        self._symbol = symbol
        arena = prog.arena
        constants = JitArena(arena.kern_vm_start, arena.user_vm_start) if arena is not None else None
        self._interpreter = Interpreter(prog.xlated, host.space, constants, function_address=self._address)
        self._fault_returns: list[int] = []

    def run(self, context: int) -> Generator[Any, int, int]:
        """The program's result (unsigned, 32 bit) for the context at guest address `context`."""
        host = self._host
        stack = host.slab.kzalloc(STACK_SIZE, "interpreter stack")
        try:
            result = yield from self._interpreter.run(self, context, stack, STACK_SIZE)
        finally:
            host.slab.kfree(stack)
        return result & 0xFFFF_FFFF

    def _address(self, slot: int) -> int:
        """What a helper calls: the JITed code of the function that begins at `slot`."""
        starts = [func.start for func in self._prog.xlated.funcs]
        return int(self._prog.images[starts.index(slot)][0])

    # -- where the JITed code would be -------------------------------------------------------------------------------

    def _native(self, slot: int, following: bool) -> int:
        """Address of the instruction at `slot`, or of what follows a call there."""
        funcs = self._prog.xlated.funcs
        index = max(i for i, f in enumerate(funcs) if f.start <= slot)
        base, image = self._prog.images[index]
        at = slot - funcs[index].start + int(following)
        behind = _BEHIND_CALL[self._host.arch.name] if following else 0
        return int(base + image.insn_offsets[at] - behind)

    def _call(
        self, function: int | str, args: Sequence[int], callers: Sequence[int], return_address: int,
        frames: Sequence[int] = (),
    ) -> GuestCall:
        returns = [self._native(slot, True) for slot in callers]
        return GuestCall(function, *args, return_address=return_address, frames=(*returns, *frames))

    # -- kernel_model.bpf.interp.Host --------------------------------------------------------------------------------

    def call(self, slot: int, callers: Sequence[int], insn: Insn, args: tuple[int, int, int, int, int]) -> GuestCall:
        """A helper or kfunc: guest text or a kcall stub of that name."""
        return self._call(self._symbol(insn), args, callers, self._native(slot, True))

    def timed_may_goto(self, slot: int, callers: Sequence[int], counter: int) -> GuestCall:
        """bpf_check_timed_may_goto(), as called by arch_bpf_timed_may_goto() as called by the program."""
        behind = self._native(slot, True) + _BEHIND_CALL[self._host.arch.name]  # its result is in its own register
        return self._call("bpf_check_timed_may_goto", (counter,), callers, self._trampoline_return(), [behind])

    def _trampoline_return(self) -> int:
        """The address behind arch_bpf_timed_may_goto()'s only call."""
        return self._behind_call("arch_bpf_timed_may_goto", "bpf_check_timed_may_goto")

    def _behind_call(self, function: str, callee: str) -> int:
        """The return address of the first call of `callee` in a kernel function."""
        start, target = self._host.machine.symbol(function), self._host.machine.symbol(callee)
        code = self._host.space.read(start, _LONGEST)
        if self._host.arch.name == "arm64":
            for at in range(0, _LONGEST, 4):
                if int.from_bytes(code[at : at + 4], "little") == 0x94000000 | (target - start - at >> 2) & 0x3FFFFFF:
                    return int(start + at + 4)
        else:
            for at in range(_LONGEST - 4):
                distance = int.from_bytes(code[at + 1 : at + 5], "little", signed=True)
                if code[at] == 0xE8 and distance == target - start - at - 5:
                    return int(start + at + 5)
        raise KemuError(f"{function}() does not call {callee}")

    def arena_fault(self, slot: int, callers: Sequence[int], address: int, write: bool) -> GuestCall:
        """A page fault and ex_handler_bpf()'s report of it; the interpreter clears and goes on."""
        start, end = self._native(slot, False), self._native(slot + 1, False)
        entries = (base + entry.insn_off for base, image in self._prog.images for entry in image.extable)
        where = next((at for at in entries if start <= at < end), start)  # what would have faulted
        if not self._fault_returns:
            self._fault_returns = [self._behind_call(*call) for call in _FAULT_CALLS[self._host.arch.name]]
        returns = self._fault_returns
        return self._call("bpf_prog_report_arena_violation", (int(write), address, where), callers, returns[-1],
                          [where, *returns[:-1]])


class InterpreterEngine:
    """All interpreted programs of a kernel, by the address of their instructions (prog->insnsi)."""

    def __init__(self, current_task: Callable[[], Any]) -> None:
        self._current_task = current_task
        self._progs: dict[int, Callable[[int], Sleeping]] = {}
        self._running: dict[int, list[int]] = {}  # by task_struct: what it interprets, innermost last

    def running(self) -> int:
        """struct bpf_prog that the current task interprets, the innermost one; 0 where it does not."""
        running = self._running.get(self._current_task().address)
        return running[-1] if running else 0

    def add(self, insns: int, host: Any, prog: Any, symbol: Callable[[Insn], int]) -> None:
        """Make a program runnable; its instructions are bound when it first runs."""
        made: list[InterpretedProg] = []

        def run(context: int) -> Sleeping:
            if not made:
                made.append(InterpretedProg(host, prog, symbol))
            task = self._current_task().address
            running = self._running.setdefault(task, [])
            running.append(prog.address)
            try:
                return (yield from made[0].run(context))
            finally:
                running.pop()
                if not running:
                    self._running.pop(task, None)

        self._progs[insns] = run

    def interpret(self, context: int, insns: int) -> Sleeping:
        """bpf_prog_run_interp()."""
        return self._progs[insns](context)
