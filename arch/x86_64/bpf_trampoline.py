"""BPF trampolines on x86-64: what a traced function's entry calls.

Mirrors arch_prepare_bpf_trampoline() and bpf_arch_text_poke() (arch/x86/net/bpf_jit_comp.c) for programs at the entry
of a function. Leaves out: calling the traced function from the trampoline (fexit, fmod_ret), arguments on the stack,
structures as arguments, get_func_ip(), tail calls.

    rbp + 8            return address, behind the call in the traced function
    rbp + 0            the rbp of the traced function's caller
    rbp - regs_off     arguments, the programs' context
    rbp - nregs_off    their number
    rbp - rbx_off      rbx
    rbp - run_ctx_off  struct bpf_tramp_run_ctx
"""

from __future__ import annotations

import struct

from arch.interface import TrampolineProg, TrampolineRequest
from arch.x86_64.bpf_jit import R8, R9, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, Assembler

_ARGUMENTS = (RDI, RSI, RDX, RCX, R8, R9)
_STORE, _LOAD, _LEA = (b"", b"\x89", 1), (b"", b"\x8b", 1), (b"", b"\x8d", 1)
_COOKIE = 0  # offsetof(struct bpf_tramp_run_ctx, bpf_cookie)
_RUN_CTX_SIZE = 16
_NOP5 = bytes.fromhex("0f1f440000")
_CALL_SIZE = 5


def _call(at: int, target: int) -> bytes:
    distance = target - (at + _CALL_SIZE)
    if not -(1 << 31) <= distance < 1 << 31:
        raise ValueError(f"call of {target:#x} is out of reach of {at:#x}")
    return b"\xe8" + struct.pack("<i", distance)


class Trampoline:
    """The architecture's part of trampolines; see arch.interface.BpfTrampoline."""

    MAX_ARGS = len(_ARGUMENTS)
    SITE_OFFSET = 0

    def entry(self) -> bytes:
        """What a traceable function begins with."""
        return _NOP5

    def site(self, at: int, target: int | None) -> bytes:
        """The instruction at `at` that calls `target`; a nop for None."""
        return _NOP5 if target is None else _call(at, target)

    def prepare(self, request: TrampolineRequest) -> bytes:
        """Machine code for `request.base`."""
        a = Assembler()
        regs_off = 8 * request.nr_args
        nregs_off = regs_off + 8
        rbx_off = nregs_off + 8
        run_ctx_off = rbx_off + _RUN_CTX_SIZE
        a.push(RBP)
        a.mov(RBP, RSP)
        a.alu_imm(5, RSP, run_ctx_off, 1)
        a.mem(_STORE, RBX, RBP, -rbx_off)
        a.mov_imm64(RAX, request.nr_args)
        a.mem(_STORE, RAX, RBP, -nregs_off)
        used = _ARGUMENTS[: request.nr_args]
        for index, register in enumerate(used):
            a.mem(_STORE, register, RBP, 8 * index - regs_off)
        for prog in request.progs:
            self._invoke(a, request.base, prog, regs_off, run_ctx_off)
        for index, register in enumerate(used):
            a.mem(_LOAD, register, RBP, 8 * index - regs_off)
        a.mem(_LOAD, RBX, RBP, -rbx_off)
        a.raw(0xC9, 0xC3)
        return bytes(a.out)

    @staticmethod
    def _invoke(a: Assembler, base: int, prog: TrampolineProg, regs_off: int, run_ctx_off: int) -> None:
        """One program between its enter and exit functions, which may say that it must not run."""

        def call(target: int) -> None:
            a.out += _call(base + len(a.out), target)

        a.mov_imm64(RDI, prog.cookie)
        a.mem(_STORE, RDI, RBP, _COOKIE - run_ctx_off)
        a.mov_imm64(RDI, prog.address)
        a.mem(_LEA, RSI, RBP, -run_ctx_off)
        call(prog.enter)
        a.mov(RBX, RAX)
        a.rr(b"\x85", RAX, RAX, 1)
        a.raw(0x74, 0)  # je: over the call of the program
        skip = len(a.out)
        a.mem(_LEA, RDI, RBP, -regs_off)
        if prog.insnsi:
            a.mov_imm64(RSI, prog.insnsi)
        call(prog.bpf_func)
        a.out[skip - 1] = len(a.out) - skip
        a.mov_imm64(RDI, prog.address)
        a.mov(RSI, RBX)
        a.mem(_LEA, RDX, RBP, -run_ctx_off)
        call(prog.exit)


TRAMPOLINE = Trampoline()
