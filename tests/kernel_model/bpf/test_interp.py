"""The interpreter: against the x86-64 JIT on random programs, and alone where the two meet different worlds."""

import random
import struct

import pytest
from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn import x86_const as ux

from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from arch.interface import JitArena, JitRequest
from arch.x86_64.bpf_jit import JIT
from kernel_model.bpf.fixups import TIMED_MAY_GOTO_CALL
from kernel_model.bpf.interp import Interpreter
from kernel_model.bpf.program import XlatedFunc, XlatedProg
from kernel_model.errors import BudgetExceededError, NotModelledError
from kernel_model.mm.access import GuestAddressError

CODE, STACK, DATA, STOP = 0x100000, 0x200000, 0x300000, 0x500000
M64 = (1 << 64) - 1
EXIT = Insn(bpf.BPF_JMP | bpf.BPF_EXIT)
CALL = bpf.BPF_JMP | bpf.BPF_CALL


class Memory:
    """A few mapped ranges."""

    def __init__(self, **ranges):
        self.ranges = {base: bytearray(data) for base, data in ranges.values()}

    def _find(self, va, length):
        for base, data in self.ranges.items():
            if base <= va and va + length <= base + len(data):
                return data, va - base
        raise GuestAddressError(va, "access")

    def read(self, va, length):
        data, at = self._find(va, length)
        return bytes(data[at : at + length])

    def write(self, va, new):
        data, at = self._find(va, len(new))
        data[at : at + len(new)] = new


class Host:
    """Its requests are the answers."""

    def __init__(self):
        self.log = []

    def call(self, slot, callers, insn, args):
        self.log.append(("call", slot, insn.imm, args, list(callers)))
        return args[0] + args[1]

    def timed_may_goto(self, slot, callers, counter):
        self.log.append(("may_goto", slot, counter))
        return 3

    def arena_fault(self, slot, callers, address, write):
        self.log.append(("fault", slot, address, write))


def prog(insns, depth=64, funcs=None):
    return XlatedProg("test", "0" * 16, funcs or [XlatedFunc("test", 0, insns, depth, False)], False)


def interpret(insns, memory=None, host=None, arena=None, context=0, budget=100_000, **kw):
    memory = memory or Memory(stack=(STACK, bytes(4096)), data=(DATA, bytes(4096)))
    program = insns if isinstance(insns, XlatedProg) else prog(insns, **kw)
    return finish(Interpreter(program, memory, arena, budget).run(host or Host(), context, STACK, 4096))


def finish(run):
    """Send a run what it asks for until it ends."""
    answer = None
    while True:
        try:
            answer = run.send(answer)
        except StopIteration as done:
            return done.value


def mov(dst, value):
    value &= M64
    return [Insn(bpf.LD_IMM64, dst, 0, 0, bpf.s32(value)), Insn(0, imm=bpf.s32(value >> 32))]


def jit(insns):
    image = JIT.compile(JitRequest(insns, 64, False, CODE, lambda i, n: STOP))
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    for base, size in ((CODE, 0x10000), (STACK, 0x10000), (DATA, 0x1000), (STOP, 0x1000)):
        uc.mem_map(base, size)
    uc.mem_write(CODE, image.code)
    uc.mem_write(STACK + 0x1000, struct.pack("<Q", STOP))
    uc.reg_write(ux.UC_X86_REG_RSP, STACK + 0x1000)
    uc.emu_start(CODE, STOP, 0, 100_000)
    return uc.reg_read(ux.UC_X86_REG_RAX), bytes(uc.mem_read(DATA, 256))


ALU = [bpf.BPF_ADD, bpf.BPF_SUB, bpf.BPF_MUL, bpf.BPF_OR, bpf.BPF_AND, bpf.BPF_XOR, bpf.BPF_LSH, bpf.BPF_RSH,
       bpf.BPF_ARSH, bpf.BPF_MOV]  # fmt: skip
JUMPS = [bpf.BPF_JEQ, bpf.BPF_JNE, bpf.BPF_JSET, bpf.BPF_JGT, bpf.BPF_JGE, bpf.BPF_JLT, bpf.BPF_JLE, bpf.BPF_JSGT,
         bpf.BPF_JSGE, bpf.BPF_JSLT, bpf.BPF_JSLE]  # fmt: skip
SIZES = [bpf.BPF_B, bpf.BPF_H, bpf.BPF_W, bpf.BPF_DW]


def random_insn(rng, room):
    """One instruction over R0..R8; R9 points to data; jumps go forward by at most `room`."""
    dst, src, off = rng.randrange(9), rng.randrange(9), 8 * rng.randrange(16)
    cls = rng.choice([bpf.BPF_ALU, bpf.BPF_ALU64])
    kind = rng.randrange(9)
    if kind == 0 and room:
        cls = rng.choice([bpf.BPF_JMP, bpf.BPF_JMP32])
        x = rng.choice([bpf.BPF_X, 0])
        constant = 0 if x else rng.randint(-9, 9)
        return Insn(cls | rng.choice(JUMPS) | x, dst, src if x else 0, rng.randrange(room), constant)
    if kind == 1:
        return Insn(bpf.BPF_STX | bpf.BPF_MEM | rng.choice(SIZES), 9, src, off)
    if kind == 2:
        return Insn(bpf.BPF_LDX | bpf.BPF_MEM | rng.choice(SIZES), dst, 9, off)
    if kind == 3:
        return Insn(bpf.BPF_LDX | bpf.BPF_MEMSX | rng.choice(SIZES[:3]), dst, 9, off)
    if kind == 4:
        ops = [op | f for op in (bpf.BPF_ADD, bpf.BPF_AND, bpf.BPF_OR, bpf.BPF_XOR) for f in (0, 1)]
        op = rng.choice([*ops, bpf.BPF_XCHG, bpf.BPF_CMPXCHG])
        return Insn(bpf.BPF_STX | bpf.BPF_ATOMIC | rng.choice([bpf.BPF_W, bpf.BPF_DW]), 9, src, off, op)
    if kind == 5:
        op = rng.choice([bpf.BPF_DIV, bpf.BPF_MOD])
        return Insn(cls | op, dst, 0, rng.randrange(2), rng.choice([3, 7, -5, 1000]))
    if kind == 6:
        return Insn(cls | bpf.BPF_END | (rng.choice([0, 8]) if cls == bpf.BPF_ALU else 0), dst, 0, 0,
                    rng.choice([16, 32, 64]))
    if kind == 7:
        extend = rng.choice([8, 16, 32] if cls == bpf.BPF_ALU64 else [8, 16])
        return Insn(cls | bpf.BPF_MOV | bpf.BPF_X, dst, src, extend)
    op = rng.choice(ALU)
    if rng.randrange(2):
        return Insn(cls | op | bpf.BPF_X, dst, src)
    bits = 64 if cls == bpf.BPF_ALU64 else 32
    shift = op in (bpf.BPF_LSH, bpf.BPF_RSH, bpf.BPF_ARSH)
    return Insn(cls | op, dst, 0, 0, rng.randrange(bits) if shift else rng.randint(-(1 << 31), (1 << 31) - 1))


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_agree_with_the_jit(seed):
    rng = random.Random(seed)
    program = [i for reg in range(9) for i in mov(reg, rng.choice([rng.getrandbits(64), rng.randrange(64)]))]
    program += mov(9, DATA)
    body = 60
    program += [random_insn(rng, body - i) for i in range(body)]
    for reg in range(9):
        program.append(Insn(bpf.BPF_STX | bpf.BPF_MEM | bpf.BPF_DW, 9, reg, 128 + 8 * reg))
    program.append(EXIT)
    memory = Memory(stack=(STACK, bytes(4096)), data=(DATA, bytes(4096)))
    result = interpret(program, memory)
    assert (result, memory.read(DATA, 256)) == jit(program)


def test_subprograms_have_their_own_stack_and_keep_the_callers_registers():
    store = Insn(bpf.BPF_ST | bpf.BPF_MEM | bpf.BPF_DW, bpf.R10, 0, -8, 5)
    main = [Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 6, 0, 0, 7), store, Insn(CALL, 0, bpf.BPF_PSEUDO_CALL, 0, 3),
            Insn(bpf.BPF_LDX | bpf.BPF_MEM | bpf.BPF_DW, 1, bpf.R10, -8),
            Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 0, 6), EXIT]
    sub = [Insn(bpf.BPF_ST | bpf.BPF_MEM | bpf.BPF_DW, bpf.R10, 0, -8, 9),
           Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 6, 0, 0, 100),
           Insn(bpf.BPF_LDX | bpf.BPF_MEM | bpf.BPF_DW, 0, bpf.R10, -8), EXIT]
    memory = Memory(stack=(STACK, bytes(4096)))
    funcs = [XlatedFunc("main", 0, main, 8, False), XlatedFunc("sub", 6, sub, 8, True)]
    assert interpret(prog([], funcs=funcs), memory) == 16
    assert memory.read(STACK + 4096 - 8, 8) == struct.pack("<Q", 5)


def test_calls_and_timed_may_goto_reach_the_host():
    host = Host()
    program = [Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 1, 0, 0, 40), Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 2, 0, 0, 2),
               Insn(CALL, 0, 0, 0, 5), Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, bpf.BPF_REG_AX, 0, 0, -16),
               Insn(CALL, 0, 0, 0, TIMED_MAY_GOTO_CALL), EXIT]
    assert interpret(program, host=host) == 42
    assert host.log[0][:3] == ("call", 2, 5) and host.log[1] == ("may_goto", 4, STACK + 4096 - 16)


def test_arena_faults_are_reported_and_clear_what_a_load_would_have_written():
    base = 0xFFFFC90000000000
    arena = JitArena(base, 0x7F0000000000)
    memory = Memory(stack=(STACK, bytes(4096)), arena=(base + 0x1000, struct.pack("<Q", 77) + bytes(4088)))
    load = bpf.BPF_LDX | bpf.BPF_PROBE_MEM32 | bpf.BPF_DW
    host = Host()
    program = [*mov(1, 0x1000), Insn(load, 3, 1, 0), *mov(2, 0x5000), *mov(4, 11), Insn(load, 4, 2, 8),
               Insn(bpf.BPF_STX | bpf.BPF_PROBE_MEM32 | bpf.BPF_W, 2, 3, -4), *mov(5, 13),
               Insn(bpf.BPF_STX | bpf.BPF_PROBE_ATOMIC | bpf.BPF_DW, 5, 2, 0, bpf.BPF_LOAD_ACQ),
               Insn(bpf.BPF_ALU64 | bpf.BPF_MOV | bpf.BPF_X, 0, 3), Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 0, 4),
               Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 0, 5), EXIT]
    assert interpret(program, memory, host, arena) == 77 + 0 + 13
    assert host.log == [("fault", 7, 0x5008, False), ("fault", 8, 0x4FFC, True), ("fault", 11, 13, True)]


def test_two_runs_of_one_program_take_turns():
    main = [Insn(bpf.BPF_ALU64 | bpf.BPF_MOV | bpf.BPF_X, 6, 1), Insn(CALL, 0, bpf.BPF_PSEUDO_CALL, 0, 2),
            Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 0, 6), EXIT]
    sub = [Insn(CALL, 0, 0, 0, 5), EXIT]
    funcs = [XlatedFunc("main", 0, main, 8, False), XlatedFunc("sub", 4, sub, 8, True)]
    memory, hosts = Memory(stack=(STACK, bytes(4096))), [Host(), Host()]
    interpreter = Interpreter(prog([], funcs=funcs), memory)
    runs = [interpreter.run(host, 100 * i, STACK + 2048 * i, 2048) for i, host in enumerate(hosts)]
    assert [next(run) for run in runs] == [0, 100]
    assert [host.log[0][4] for host in hosts] == [[1], [1]]
    for number in (1, 0):
        with pytest.raises(StopIteration) as done:
            runs[number].send(7)
        assert done.value.value == 100 * number + 7


def test_an_endless_program_uses_up_its_budget():
    with pytest.raises(BudgetExceededError, match="budget of 1000"):
        interpret([Insn(bpf.BPF_JMP | bpf.BPF_JA, off=-1), EXIT], budget=1000)


def test_what_it_does_not_know_is_named():
    with pytest.raises(NotModelledError, match="instruction 0: e500"):
        interpret([Insn(bpf.BPF_JMP | bpf.BPF_JCOND), EXIT])
