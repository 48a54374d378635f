"""Random programs on this machine's kernel and here: same verdict, tag, xlated instructions and results."""

import os
import random
import struct

import pytest

from arch import bpf_isa as b
from arch.bpf_isa import Insn, decode, encode
from kernel_model import profiles
from kernel_model.bpf.fixups import TIMED_MAY_GOTO_CALL, Addresses, fix_up
from kernel_model.bpf.interp import Interpreter
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.bpf.verifier import VerifierRejected
from kernel_model.bpf.verify import verify
from kernel_model.types import Btf

CONTEXT, STACK, SLOT = 0x10000, 0x20000, -16
M64 = (1 << 64) - 1
EDGES = [0, 1, -1, 2, 7, 31, 32, 63, 64, 0x7FFFFFFF, -0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 63) - 1, -5]
ALU = [b.BPF_ADD, b.BPF_SUB, b.BPF_MUL, b.BPF_OR, b.BPF_AND, b.BPF_LSH, b.BPF_RSH, b.BPF_NEG, b.BPF_XOR, b.BPF_MOV,
       b.BPF_ARSH, b.BPF_END, b.BPF_DIV, b.BPF_MOD, b.BPF_DIV, b.BPF_MOD]  # fmt: skip
CONDITIONS = [b.BPF_JEQ, b.BPF_JGT, b.BPF_JGE, b.BPF_JSET, b.BPF_JNE, b.BPF_JSGT, b.BPF_JSGE, b.BPF_JLT, b.BPF_JLE,
              b.BPF_JSLT, b.BPF_JSLE]  # fmt: skip
SIZES = [b.BPF_B, b.BPF_H, b.BPF_W, b.BPF_DW]
PROFILE = profiles.get("v6.18")
NO_ADDRESSES = Addresses(lambda _: 0, lambda *_: 0, lambda _: 0, 0, lambda _: None)


class Programs:
    """Random programs over r2..r5, eight bytes of stack and a context of six words."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def register(self):
        return self.random.randrange(2, 6)

    def value(self):
        return (self.random.choice(EDGES) if self.random.random() < 0.7 else self.random.getrandbits(64)) & M64

    def alu(self):
        op, cls, dst = self.random.choice(ALU), self.random.choice([b.BPF_ALU, b.BPF_ALU64]), self.register()
        bits = 64 if cls == b.BPF_ALU64 else 32
        if op == b.BPF_NEG:
            return Insn(cls | op, dst)
        if op == b.BPF_END:
            return Insn(cls | op | (self.random.choice([0, 8]) if bits == 32 else 0), dst, 0, 0,
                        self.random.choice([16, 32, 64]))
        off = self.random.choice([0, 1]) if op in (b.BPF_DIV, b.BPF_MOD) else 0
        if self.random.random() < 0.5:
            if op == b.BPF_MOV:
                off = self.random.choice([0, 8, 16, 32][: 4 if bits == 64 else 3])
            return Insn(cls | op | b.BPF_X, dst, self.register(), off)
        imm = b.s32(self.value())
        if op in (b.BPF_LSH, b.BPF_RSH, b.BPF_ARSH):
            imm %= bits
        return Insn(cls | op, dst, 0, off, imm or -1 if op in (b.BPF_DIV, b.BPF_MOD) else imm)

    def memory(self):
        size, reg = self.random.choice(SIZES), self.register()
        length = b.SIZE_BYTES[size]
        off = SLOT + length * self.random.randrange(8 // length)
        return self.random.choice([
            Insn(b.BPF_ST | b.BPF_MEM | size, 10, 0, off, b.s32(self.value())),
            Insn(b.BPF_STX | b.BPF_MEM | size, 10, reg, off),
            Insn(b.BPF_LDX | b.BPF_MEM | size, reg, 10, off),
            Insn(b.BPF_LDX | (b.BPF_MEM if size == b.BPF_DW else b.BPF_MEMSX) | size, reg, 10, off),
        ])

    def atomic(self):
        op = self.random.choice([b.BPF_ADD, b.BPF_OR, b.BPF_AND, b.BPF_XOR]) | self.random.choice([0, b.BPF_FETCH])
        op = self.random.choice([op, op, b.BPF_XCHG, b.BPF_CMPXCHG, b.BPF_LOAD_ACQ, b.BPF_STORE_REL])
        ordered = op in (b.BPF_LOAD_ACQ, b.BPF_STORE_REL)
        code = b.BPF_STX | b.BPF_ATOMIC | self.random.choice(SIZES if ordered else SIZES[2:])
        if op == b.BPF_LOAD_ACQ:
            return Insn(code, self.register(), 10, SLOT, op)
        return Insn(code, 10, self.register(), SLOT, op)

    def jump(self, room):
        off, cls = self.random.randrange(room + 1), self.random.choice([b.BPF_JMP, b.BPF_JMP32])
        kind = self.random.randrange(12)
        if kind == 0:
            return Insn(b.BPF_JMP | b.BPF_JCOND, 0, 0, off)
        if kind == 1:
            return Insn(b.BPF_JMP, 0, 0, off) if cls == b.BPF_JMP else Insn(b.BPF_JMP32, 0, 0, 0, off)
        op = cls | self.random.choice(CONDITIONS)
        if kind < 7:
            return Insn(op | b.BPF_X, self.register(), self.register(), off)
        return Insn(op, self.register(), 0, off, b.s32(self.value()))

    def program(self):
        length = self.random.choice([1, 3, 8, 16])
        head = [Insn(0xBF, 6, 1), *(Insn(0x79, r, 1, 8 * (r - 2)) for r in range(2, 6))]
        if self.random.random() < 0.4:  # a known value: branches that are never taken
            head.append(Insn(0xB7, self.register(), 0, 0, b.s32(self.value())))
        head += [Insn(0xB7), Insn(0x7B, 10, 2, SLOT), Insn(0x7B, 10, 0, -8)]
        body = []
        for left in reversed(range(length)):
            kind = self.random.randrange(4)
            body.append(self.jump(left) if kind == 0 and left else [self.alu, self.memory, self.atomic][kind - 1]())
        store = [Insn(0x7B, 6, r, 8 * (r - 2)) for r in range(2, 6)]
        return [*head, *body, *store, Insn(0x7B, 6, 0, 32), Insn(0x79, 7, 10, SLOT), Insn(0x7B, 6, 7, 40), Insn(0xB7),
                Insn(0x95)]


class Memory:
    def __init__(self, context):
        self.parts = {CONTEXT: bytearray(context), STACK: bytearray(4096)}

    def _part(self, va):
        base = CONTEXT if va < STACK else STACK
        return self.parts[base], va - base

    def read(self, va, length):
        data, at = self._part(va)
        return bytes(data[at : at + length])

    def write(self, va, new):
        data, at = self._part(va)
        data[at : at + len(new)] = new


class Host:
    def timed_may_goto(self, slot, counter):
        return 0xFFFF


def comparable(insns):
    """Without the address of may_goto's check."""
    for insn in insns:
        if insn.code == 0x85:
            insn.imm = TIMED_MAY_GOTO_CALL
    return insns


@pytest.mark.parametrize("seed", range(8))
def test_random_programs(oracle, seed, vmlinux):
    programs, accepted = Programs(seed), 0
    for _ in range(25):
        source = programs.program()
        spec = ProgSpec("p", "syscall", ProgType.SYSCALL, [i.copy() for i in source], sleepable=True, license="GPL",
                        subprogs=[("p", 0)])
        fd, error, _ = oracle.load(encode(source))
        try:
            verdict = verify(spec, [], None, vmlinux, PROFILE, 0, "x86_64")
        except VerifierRejected as rejected:
            assert rejected.errno == error
            continue
        assert error == 0
        accepted += 1
        try:
            compare(oracle, fd, fix_up(spec, verdict.slots, verdict.functions, NO_ADDRESSES, None), programs)
        finally:
            os.close(fd)
    assert accepted > 12


def compare(oracle, fd, ours, programs):
    info = oracle.prog_info(fd)
    assert ours.tag == info.tag
    zext = Insn(0xBC, 0, 0, 0, 1)
    kernel, mine = comparable(decode(info.xlated)), comparable([i.copy() for i in ours.insns])
    if kernel.count(zext) == mine.count(zext):  # the kernel leaves it out where nobody reads the upper half
        assert kernel == mine
    for _ in range(3):
        context = struct.pack("<6Q", *(programs.value() for _ in range(4)), 0, 0)
        result, after = oracle.test_run(fd, context)
        memory = Memory(context)
        with pytest.raises(StopIteration) as done:  # nothing in there asks for anything
            next(Interpreter(ours, memory).run(Host(), CONTEXT, STACK, 4096))
        assert done.value.value == result
        assert bytes(memory.parts[CONTEXT]) == after


@pytest.fixture(scope="module")
def vmlinux(request):
    return Btf((request.config.rootpath / "images" / "vmlinux.btf").read_bytes(), "vmlinux.btf")
