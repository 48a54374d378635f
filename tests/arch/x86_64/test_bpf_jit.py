"""The x86-64 JIT by execution: every instruction's effect on a bare Unicorn CPU against what BPF says it must be."""

import random
import struct

import pytest
from unicorn import UC_ARCH_X86, UC_HOOK_MEM_INVALID, UC_MODE_64, Uc
from unicorn import x86_const as ux

from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from arch.interface import JitArena, JitRequest
from arch.x86_64.bpf_jit import EX_TYPE_BPF, FIXUP_ARENA_ACCESS, JIT, PT_REGS, RAX, RDI, REGISTERS

CODE, STACK, DATA, ARENA, STOP, HELPER = 0x100000, 0x200000, 0x300000, 0x40000000, 0x500000, 0x501000
USER_VM_START = 0x7F00_0000_0000
M64 = (1 << 64) - 1
ALU64, ALU, JMP, JMP32 = bpf.BPF_ALU64, bpf.BPF_ALU, bpf.BPF_JMP, bpf.BPF_JMP32
EXIT = Insn(JMP | bpf.BPF_EXIT)


def mov(dst, value):
    value &= M64
    return [Insn(bpf.LD_IMM64, dst, 0, 0, bpf.s32(value)), Insn(0, imm=bpf.s32(value >> 32))]


def reg(op, dst, src, cls=ALU64, off=0):
    return Insn(cls | op | bpf.BPF_X, dst, src, off)


def imm(op, dst, value, cls=ALU64, off=0):
    return Insn(cls | op, dst, 0, off, value)


def compile_(insns, **extra):
    request = {"stack_depth": 64, "is_subprog": False, "base": CODE, "call_target": lambda i, n: HELPER}
    return JIT.compile(JitRequest(insns=insns, **(request | extra)))


class Run:
    def __init__(self, insns, args=(), data=b"", window=b"", helper=b"\xc3", **extra):
        self.image = compile_(insns, **extra)
        uc = self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        for base, size in ((CODE, 0x10000), (STACK, 0x10000), (DATA, 0x1000), (ARENA, 0x1000), (STOP, 0x2000)):
            uc.mem_map(base, size)
        uc.mem_write(CODE, self.image.code)
        uc.mem_write(DATA, data)
        uc.mem_write(ARENA, window)
        uc.mem_write(STOP, b"\xf4")
        uc.mem_write(HELPER, helper)
        self.saved = {r: 0xABCD0000 + r for r in (ux.UC_X86_REG_RBX, ux.UC_X86_REG_RBP, ux.UC_X86_REG_R12,
                                                   ux.UC_X86_REG_R13, ux.UC_X86_REG_R14, ux.UC_X86_REG_R15)}
        for r, v in self.saved.items():
            uc.reg_write(r, v)
        for r, v in zip((ux.UC_X86_REG_RDI, ux.UC_X86_REG_RSI), args, strict=False):
            uc.reg_write(r, v)
        uc.mem_write(STACK + 0x8000, struct.pack("<Q", STOP))
        uc.reg_write(ux.UC_X86_REG_RSP, STACK + 0x8000)

    def go(self):
        self.uc.emu_start(CODE, STOP, 0, 100000)
        assert self.uc.reg_read(ux.UC_X86_REG_RIP) == STOP
        assert self.uc.reg_read(ux.UC_X86_REG_RSP) == STACK + 0x8008
        for r, v in self.saved.items():
            assert self.uc.reg_read(r) == v, "a callee-saved register came back changed"
        return self.uc.reg_read(ux.UC_X86_REG_RAX)


def run(insns, *args, **extra):
    return Run(insns, args, **extra).go()


def signed(value, bits):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def expect_alu(op, a, b, bits, is_signed=False):
    mask = (1 << bits) - 1
    a, b, count = a & mask, b & mask, b & (bits - 1)
    if op in (bpf.BPF_DIV, bpf.BPF_MOD):
        x, y = (signed(a, bits), signed(b, bits)) if is_signed else (a, b)
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        return (quotient if op == bpf.BPF_DIV else x - quotient * y) & mask
    return {
        bpf.BPF_ADD: a + b, bpf.BPF_SUB: a - b, bpf.BPF_MUL: a * b, bpf.BPF_OR: a | b, bpf.BPF_AND: a & b,
        bpf.BPF_XOR: a ^ b, bpf.BPF_LSH: a << count, bpf.BPF_RSH: a >> count,
        bpf.BPF_ARSH: signed(a, bits) >> count, bpf.BPF_MOV: b,
    }[op] & mask  # fmt: skip


OPS = {
    "add": bpf.BPF_ADD, "sub": bpf.BPF_SUB, "mul": bpf.BPF_MUL, "or": bpf.BPF_OR, "and": bpf.BPF_AND,
    "xor": bpf.BPF_XOR, "lsh": bpf.BPF_LSH, "rsh": bpf.BPF_RSH, "arsh": bpf.BPF_ARSH, "mov": bpf.BPF_MOV,
    "div": bpf.BPF_DIV, "mod": bpf.BPF_MOD,
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("cls", [ALU, ALU64])
def test_arithmetic_in_every_register(name, cls):
    """All pairs of registers: the destination gets the result, every other register keeps its value."""
    op, bits, rng = OPS[name], 64 if cls == ALU64 else 32, random.Random(name)
    pairs = [(d, s) for d in range(10) for s in range(10)]
    for dst, src in rng.sample(pairs, 24) + [(4, 4), (3, 0), (0, 3), (4, 1), (1, 4)]:
        kinds = [lambda: rng.getrandbits(64), lambda: rng.getrandbits(8), lambda: M64 - rng.getrandbits(6)]
        values = [rng.choice(kinds)() | 1 for _ in range(10)]
        for is_signed in (False, True) if name in ("div", "mod") else (False,):
            program = [i for r in range(10) for i in mov(r, values[r])]
            program.append(reg(op, dst, src, cls, int(is_signed)))
            for r in range(10):  # fold every register into memory on the stack
                program.append(Insn(bpf.BPF_STX | bpf.BPF_MEM | bpf.BPF_DW, bpf.R10, r, -80 + 8 * r))
            program += [*mov(0, 0), EXIT]
            machine = Run(program, stack_depth=80)
            machine.go()
            frame = STACK + 0x8000 - 8
            got = struct.unpack("<10Q", machine.uc.mem_read(frame - 80, 80))
            wanted = list(values)
            wanted[dst] = expect_alu(op, values[dst], values[src], bits, is_signed)
            assert list(got) == wanted, (name, bits, dst, src, is_signed)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("cls", [ALU, ALU64])
@pytest.mark.parametrize("constant", [1, 7, -3, 0x1234567])
def test_arithmetic_with_a_constant(name, cls, constant):
    op, bits = OPS[name], 64 if cls == ALU64 else 32
    if name in ("lsh", "rsh", "arsh"):
        constant &= bits - 1
    for dst in (0, 2, 3, 4, 9):
        program = [*mov(dst, 0xF123456789ABCDEF), imm(op, dst, constant, cls), reg(bpf.BPF_MOV, 0, dst), EXIT]
        assert run(program) == expect_alu(op, 0xF123456789ABCDEF, constant, bits), dst


@pytest.mark.parametrize("off, cls, wanted", [
    (8, ALU64, M64 - 0x10), (16, ALU64, M64 - 0x110), (32, ALU64, M64 - 0x76543210),
    (8, ALU, 0xFFFFFFEF), (16, ALU, 0xFFFFFEEF), (0, ALU, 0x89ABCDEF), (0, ALU64, 0x123489ABCDEF),
])  # fmt: skip
def test_moves_that_extend(off, cls, wanted):
    value = {8: 0xEF, 16: 0xFEEF, 32: 0x89ABCDEF}.get(off, 0x123489ABCDEF)
    for src in (1, 5, 9, 10):
        program = [*mov(1, value), reg(bpf.BPF_MOV, src, 1) if src < 10 else imm(bpf.BPF_MOV, 2, 0)]
        program += [reg(bpf.BPF_MOV, 0, src if src < 10 else 1, cls, off), EXIT]
        assert run(program) == wanted


def test_negation_and_byte_swaps():
    value = 0x1122334455667788
    cases = [
        (imm(bpf.BPF_NEG, 1, 0), -value & M64), (imm(bpf.BPF_NEG, 1, 0, ALU), -value & 0xFFFFFFFF),
        (imm(bpf.BPF_END | bpf.BPF_TO_BE, 1, 16, ALU), 0x8877),
        (imm(bpf.BPF_END | bpf.BPF_TO_BE, 1, 32, ALU), 0x88776655),
        (imm(bpf.BPF_END | bpf.BPF_TO_BE, 1, 64, ALU), 0x8877665544332211), (imm(bpf.BPF_END, 1, 16, ALU), 0x7788),
        (imm(bpf.BPF_END, 1, 32, ALU), 0x55667788), (imm(bpf.BPF_END, 1, 64, ALU), value),
        (imm(bpf.BPF_END, 1, 64, ALU64), 0x8877665544332211), (imm(bpf.BPF_END, 1, 32, ALU64), 0x88776655),
    ]  # fmt: skip
    for insn, wanted in cases:
        for dst in (1, 5, 7):
            changed = Insn(insn.code, dst, 0, 0, insn.imm)
            assert run([*mov(dst, value), changed, reg(bpf.BPF_MOV, 0, dst), EXIT]) == wanted


@pytest.mark.parametrize("size", [bpf.BPF_B, bpf.BPF_H, bpf.BPF_W, bpf.BPF_DW])
def test_loads_and_stores(size):
    bits = 8 * bpf.SIZE_BYTES[size]
    value = 0xF1E2D3C4B5A69788
    for base in (1, 2, 6, 10):
        for source in (0, 2, 3, 5, 8):
            if base == source:
                continue
            at = [] if base == 10 else mov(base, DATA + 0x200)
            program = [*at, *mov(source, value), Insn(bpf.BPF_STX | bpf.BPF_MEM | bpf.BPF_DW, base, 0, -16)]
            program += [Insn(bpf.BPF_STX | bpf.BPF_MEM | size, base, source, -24)]
            program += [Insn(bpf.BPF_LDX | bpf.BPF_MEM | size, 0, base, -24), EXIT]
            assert run(program) == value & (1 << bits) - 1
            if size != bpf.BPF_DW:
                program[-2] = Insn(bpf.BPF_LDX | bpf.BPF_MEMSX | size, 0, base, -24)
                assert run(program) == signed(value, bits) & M64
    program = [*mov(1, DATA), Insn(bpf.BPF_ST | bpf.BPF_MEM | size, 1, 0, 0x300, -2)]
    assert run([*program, Insn(bpf.BPF_LDX | bpf.BPF_MEM | size, 0, 1, 0x300), EXIT]) == -2 & (1 << bits) - 1


CONDITIONS = {
    bpf.BPF_JEQ: lambda a, b, n: a == b, bpf.BPF_JNE: lambda a, b, n: a != b, bpf.BPF_JSET: lambda a, b, n: a & b != 0,
    bpf.BPF_JGT: lambda a, b, n: a > b, bpf.BPF_JGE: lambda a, b, n: a >= b, bpf.BPF_JLT: lambda a, b, n: a < b,
    bpf.BPF_JLE: lambda a, b, n: a <= b, bpf.BPF_JSGT: lambda a, b, n: signed(a, n) > signed(b, n),
    bpf.BPF_JSGE: lambda a, b, n: signed(a, n) >= signed(b, n),
    bpf.BPF_JSLT: lambda a, b, n: signed(a, n) < signed(b, n),
    bpf.BPF_JSLE: lambda a, b, n: signed(a, n) <= signed(b, n),
}  # fmt: skip


@pytest.mark.parametrize("op", CONDITIONS)
@pytest.mark.parametrize("cls", [JMP, JMP32])
@pytest.mark.parametrize("far", [0, 60])
def test_conditional_jumps(op, cls, far):
    bits = 64 if cls == JMP else 32
    mask = (1 << bits) - 1
    filler = [imm(bpf.BPF_ADD, 3, 1)] * far
    for a, b in [(0, 0), (1, 2), (2, 1), (M64, 1), (1, M64), (0x80000000, 0), (1 << 63, 5), (0xFFFFFFFF00000001, 1)]:
        wanted = int(CONDITIONS[op](a & mask, b & mask, bits))
        tail = [imm(bpf.BPF_MOV, 0, 0), *filler, EXIT, imm(bpf.BPF_MOV, 0, 1), EXIT]
        skip = len(filler) + 2
        assert run([*mov(1, a), *mov(2, b), Insn(cls | op | bpf.BPF_X, 1, 2, skip), *tail]) == wanted
        constant = bpf.s32(b)
        wanted = int(CONDITIONS[op](a & mask, constant & mask, bits))
        assert run([*mov(1, a), Insn(cls | op, 1, 0, skip, constant), *tail]) == wanted


def test_loops_jump_backwards():
    program = [imm(bpf.BPF_MOV, 0, 0), imm(bpf.BPF_MOV, 1, 100), reg(bpf.BPF_ADD, 0, 1), imm(bpf.BPF_SUB, 1, 1),
               Insn(JMP | bpf.BPF_JNE, 1, 0, -3, 0), Insn(JMP32 | bpf.BPF_JA, imm=1), imm(bpf.BPF_MOV, 0, 0), EXIT]
    assert run(program) == 5050


def test_calls_pass_and_return():
    program = [imm(bpf.BPF_MOV, 1, 40), imm(bpf.BPF_MOV, 2, 2), Insn(JMP | bpf.BPF_CALL, imm=1), EXIT]
    assert run(program, helper=bytes.fromhex("488d0437c3")) == 42  # lea rax, [rdi+rsi]


@pytest.mark.parametrize("address", [0xFFFF_FFFF_C000_1000, 0x1234_5678_9ABC])
def test_the_address_of_a_function(address):
    first, second = mov(0, 77)
    first.src = bpf.BPF_PSEUDO_FUNC
    asked = []
    assert run([first, second, EXIT], call_target=lambda at, insn: asked.append((at, insn.imm)) or address) == address
    assert set(asked) == {(0, 77)}


@pytest.mark.parametrize("size, bits", [(bpf.BPF_W, 32), (bpf.BPF_DW, 64)])
def test_atomics(size, bits):
    mask, old, arg = (1 << bits) - 1, 0xF0F0F0F0F0F0F0F0, 0x1234567812345678
    ops = {bpf.BPF_ADD: old + arg, bpf.BPF_AND: old & arg, bpf.BPF_OR: old | arg, bpf.BPF_XOR: old ^ arg}
    for op, new in ops.items():
        for fetch in (0, bpf.BPF_FETCH):
            for base, src in ((1, 2), (6, 0), (0, 3)):
                program = [*mov(base, DATA), *mov(7, 0x77), *mov(src, arg)]
                program += [Insn(bpf.BPF_STX | bpf.BPF_ATOMIC | size, base, src, 8, op | fetch)]
                program += [reg(bpf.BPF_MOV, 0, src), EXIT]
                machine = Run(program, data=struct.pack("<QQ", 0, old))
                assert machine.go() == (old & mask if fetch else arg), (op, fetch, base, src)
                got = struct.unpack("<Q", machine.uc.mem_read(DATA + 8, 8))[0]
                assert got == (old & ~mask | new & mask) & M64
    exchange = [*mov(1, DATA), *mov(2, arg), Insn(bpf.BPF_STX | bpf.BPF_ATOMIC | size, 1, 2, 8, bpf.BPF_XCHG),
                reg(bpf.BPF_MOV, 0, 2), EXIT]
    assert run(exchange, data=struct.pack("<QQ", 0, old)) == old & mask
    for expected in (old, 5):
        program = [*mov(0, expected & mask), *mov(1, DATA), *mov(2, arg),
                   Insn(bpf.BPF_STX | bpf.BPF_ATOMIC | size, 1, 2, 8, bpf.BPF_CMPXCHG), EXIT]
        machine = Run(program, data=struct.pack("<QQ", 0, old))
        assert machine.go() == old & mask
        got = struct.unpack("<Q", machine.uc.mem_read(DATA + 8, 8))[0]
        assert got & mask == (arg if expected == old else old) & mask


@pytest.mark.parametrize("size", [bpf.BPF_B, bpf.BPF_H, bpf.BPF_W, bpf.BPF_DW])
def test_acquire_and_release(size):
    bits = 8 * bpf.SIZE_BYTES[size]
    program = [*mov(1, DATA), *mov(2, 0x1122334455667788),
               Insn(bpf.BPF_STX | bpf.BPF_ATOMIC | size, 1, 2, 8, bpf.BPF_STORE_REL),
               Insn(bpf.BPF_STX | bpf.BPF_ATOMIC | size, 0, 1, 8, bpf.BPF_LOAD_ACQ), EXIT]
    assert run(program) == 0x1122334455667788 & (1 << bits) - 1


KERN = JitArena(kern_vm_start=ARENA - 0x1000, user_vm_start=USER_VM_START)


def test_arena_accesses_go_through_the_base_register():
    program = [*mov(1, 0x1010), Insn(bpf.BPF_ST | bpf.BPF_PROBE_MEM32 | bpf.BPF_W, 1, 0, 4, 0x55),
               *mov(2, 7), Insn(bpf.BPF_STX | bpf.BPF_PROBE_ATOMIC | bpf.BPF_W, 1, 2, 4, bpf.BPF_ADD | bpf.BPF_FETCH),
               Insn(bpf.BPF_LDX | bpf.BPF_PROBE_MEM32 | bpf.BPF_W, 0, 1, 4), EXIT]
    assert Run(program, window=bytes(64), arena=KERN).go() == 0x5C


@pytest.mark.parametrize(
    "value, wanted",
    [
        (0, 0),
        (0x1000, USER_VM_START | 0x1000),
        (0xABCDEF0000001234, USER_VM_START | 0x1234),
        (0xFFFFFFFF00000000, 0),
    ],
)
def test_cast_to_user_space(value, wanted):
    for dst, src in ((0, 0), (0, 1), (7, 8), (3, 2)):
        cast = Insn(ALU64 | bpf.BPF_MOV | bpf.BPF_X, dst, src, bpf.BPF_ADDR_SPACE_CAST, 1 << 16)
        program = [*mov(src, value), cast, reg(bpf.BPF_MOV, 0, dst), EXIT]
        assert run(program, arena=KERN) == wanted


def test_faults_are_described_by_the_extable():
    load = Insn(bpf.BPF_LDX | bpf.BPF_PROBE_MEM32 | bpf.BPF_DW, 0, 1, -8)
    store = Insn(bpf.BPF_ST | bpf.BPF_PROBE_MEM32 | bpf.BPF_B, 1, 0, 300, 1)
    atomic = Insn(bpf.BPF_STX | bpf.BPF_PROBE_ATOMIC | bpf.BPF_DW, 1, 2, 16, bpf.BPF_LOAD_ACQ)
    image = compile_([load, store, atomic, EXIT], arena=KERN)
    first, second, third = image.extable
    assert first.insn_off == image.insn_offsets[0] and first.fixup_off == image.insn_offsets[1]
    length = first.fixup_off - first.insn_off
    assert first.fixup == length | PT_REGS[RAX] << 8 | PT_REGS[RDI] << 16 | FIXUP_ARENA_ACCESS
    assert first.type_data == EX_TYPE_BPF | 0xFFF8 << 16
    assert second.fixup >> 8 & 0xFF == 1 and second.type_data == EX_TYPE_BPF | 300 << 16
    assert third.fixup >> 8 & 0xFF == 1 and third.fixup >> 16 & 0xFF == PT_REGS[RDI]


def test_untrusted_pointers_do_not_reach_user_space():
    load = Insn(bpf.BPF_LDX | bpf.BPF_PROBE_MEM | bpf.BPF_DW, 0, 1, 8)
    assert run([*mov(1, DATA), *mov(0, 5), load, EXIT], data=b"\xff" * 32) == 0
    machine = Run([*mov(1, 0xFFFFFFFF81000000), load, EXIT])
    seen = []
    machine.uc.hook_add(UC_HOOK_MEM_INVALID, lambda uc, kind, at, size, value, data: seen.append(at))
    with pytest.raises(Exception, match="Invalid memory"):
        machine.uc.emu_start(CODE, STOP)
    assert seen == [0xFFFFFFFF81000008 & (1 << 52) - 1]  # without paging the CPU has 52 address bits
    (entry,) = machine.image.extable
    assert machine.uc.reg_read(ux.UC_X86_REG_RIP) == CODE + entry.insn_off
    assert entry.fixup == (entry.fixup_off - entry.insn_off) | PT_REGS[RAX] << 8


def test_what_has_no_translation_is_named():
    with pytest.raises(NotImplementedError, match="instruction 1: e500"):
        compile_([imm(bpf.BPF_MOV, 0, 0), Insn(JMP | bpf.BPF_JCOND), EXIT])
    with pytest.raises(NotImplementedError, match="jumps out"):
        compile_([Insn(JMP | bpf.BPF_JA, off=9), EXIT])


def test_all_bpf_registers_have_their_own_machine_register():
    assert len(set(REGISTERS)) == 12
