"""BPF trampolines on arm64: what a traced function's entry calls.

Mirrors prepare_trampoline() (arch/arm64/net/bpf_jit_comp.c) for programs at a function's entry, and the entries that
ftrace keeps (arch/arm64/kernel/ftrace.c): `mov x9, lr` and a nop that becomes `bl`. Leaves out: calling the traced
function from the trampoline (fexit, fmod_ret), arguments on the stack, structures as arguments, get_func_ip(), and
the way through ftrace_caller() to a trampoline that a branch does not reach.

    frame record of the traced function's caller: fp, x9
    frame record of the traced function: fp, lr
    sp + regs_off     x19, x20
    sp + args_off     arguments, the programs' context
    sp + nregs_off    their number
    sp + 0            struct bpf_tramp_run_ctx
"""

from __future__ import annotations

import struct

from arch.arm64 import insn as a64
from arch.interface import TrampolineProg, TrampolineRequest

_COOKIE = 0  # offsetof(struct bpf_tramp_run_ctx, bpf_cookie)
_NREGS_OFF = 16  # behind struct bpf_tramp_run_ctx
_ARGS_OFF = _NREGS_OFF + 8
_TMP, _PARENT = 10, 9  # scratch registers; x9 holds the traced function's return address
_PROG, _START = 19, 20


def _words(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def _store(rt: int, offset: int) -> int:
    word = a64.store(3, rt, a64.SP, offset)
    assert word is not None
    return word


def _load(rt: int, offset: int) -> int:
    word = a64.load(3, rt, a64.SP, offset)
    assert word is not None
    return word


class Trampoline:
    """The architecture's part of trampolines; see arch.interface.BpfTrampoline."""

    MAX_ARGS = 8
    SITE_OFFSET = 4

    def entry(self) -> bytes:
        """What a traceable function begins with."""
        return _words(a64.mov(1, _PARENT, a64.LR), a64.NOP)

    def site(self, at: int, target: int | None) -> bytes:
        """The instruction at `at` that calls `target`; a nop for None."""
        return _words(a64.NOP if target is None else a64.branch_link(target - at))

    def prepare(self, request: TrampolineRequest) -> bytes:
        """Machine code for `request.base`."""
        nr_args = request.nr_args
        regs_off = _ARGS_OFF + 8 * nr_args
        words = [
            a64.BTI_JC, a64.push(a64.FP, _PARENT), a64.mov_sp(a64.FP, a64.SP), a64.push(a64.FP, a64.LR),
            a64.mov_sp(a64.FP, a64.SP), a64.sub_imm(1, a64.SP, a64.SP, regs_off + 16 + 15 & ~15),
            *a64.mov_imm(1, _TMP, nr_args), _store(_TMP, _NREGS_OFF),
            *(_store(register, _ARGS_OFF + 8 * register) for register in range(nr_args)),
            _store(_PROG, regs_off), _store(_START, regs_off + 8),
        ]  # fmt: skip
        for prog in request.progs:
            words += self._invoke(prog)
        words += [
            *(_load(register, _ARGS_OFF + 8 * register) for register in range(nr_args)),
            _load(_PROG, regs_off), _load(_START, regs_off + 8), a64.mov_sp(a64.SP, a64.FP),
            a64.pop(a64.FP, a64.LR), a64.pop(a64.FP, _PARENT),
            a64.mov(1, _TMP, a64.LR), a64.mov(1, a64.LR, _PARENT), a64.ret(_TMP),
        ]  # fmt: skip
        return _words(*words)

    @staticmethod
    def _invoke(prog: TrampolineProg) -> list[int]:
        """One program between its enter and exit functions, which may say that it must not run."""

        def call(target: int) -> list[int]:
            return [*a64.mov_kernel_address(_TMP, target), a64.blr(_TMP)]

        run = [a64.add_imm(1, 0, a64.SP, _ARGS_OFF)]
        if prog.insnsi:
            run += a64.mov_kernel_address(1, prog.insnsi)
        run += call(prog.bpf_func)
        return [
            *a64.mov_imm(1, _TMP, prog.cookie), _store(_TMP, _COOKIE),
            *a64.mov_kernel_address(_PROG, prog.address), a64.mov(1, 0, _PROG), a64.mov_sp(1, a64.SP),
            *call(prog.enter), a64.mov(1, _START, 0), a64.cbz(1, 0, 4 * (len(run) + 1)), *run,
            a64.mov(1, 0, _PROG), a64.mov(1, 1, _START), a64.mov_sp(2, a64.SP), *call(prog.exit),
        ]  # fmt: skip


TRAMPOLINE = Trampoline()
