"""arch/arm64/bpf_jit.py: every instruction executed and compared with what BPF says it does."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arch import bpf_isa as b
from arch.arm64 import LAYOUT
from arch.arm64.bpf_jit import JIT
from arch.arm64.pgtable import PGTABLE
from arch.bpf_isa import Insn, s16, s32, s64
from arch.interface import JitArena, JitRequest, Prot
from kernel_model.memory import GuestMemory
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.init_mm import mem_init
from kernel_model.mm.vmalloc import VM_SPARSE, Vmalloc

M64, M32 = (1 << 64) - 1, (1 << 32) - 1
EXIT = Insn(b.BPF_JMP | b.BPF_EXIT)
USER_VM_START = 0x7F7D_2620_0000


class Guest:
    """A CPU, one page of BPF text, data in vmalloc space, an arena window with one page at offset 0x3000."""

    def __init__(self):
        from emu.cpu.arm64 import Cpu

        memory = GuestMemory(32 << 20, LAYOUT.phys_base)
        self.mm = mem_init(memory, LAYOUT, PGTABLE)
        self.space, vm = KernelSpace(self.mm), Vmalloc(self.mm)
        window = {"start": LAYOUT.modules_start, "end": LAYOUT.modules_end}
        self.text = vm.vmalloc(8192, "bpf", prot=Prot.READ | Prot.EXEC, **window)
        self.vectors = vm.vmalloc(4096, "vectors", align=4096, prot=Prot.READ | Prot.EXEC, **window)
        self.stop = vm.vmalloc(4096, "stop", prot=Prot.READ | Prot.EXEC, **window)
        self.space.write_u32(self.stop, 0xD503201F)
        self.data = vm.vmalloc(8192, "data")
        self.stack = vm.alloc_thread_stack() + 16384
        area = vm.get_vm_area((4 << 30) + (64 << 10), VM_SPARSE, "arena")
        self.arena = JitArena(area.addr + (32 << 10), USER_VM_START)
        page = self.mm.pages.alloc_pages(zero=True)
        self.mm.map_kernel_range(self.arena.kern_vm_start + 0x3000, [page], Prot.READ | Prot.WRITE)
        self.cpu = Cpu(0, memory)
        empty = self.mm.pages.alloc_pages(zero=True) << 12
        self.percpu = 0x1000
        self.cpu.reset(empty, self.mm.pgd, self.vectors, self.percpu)
        self.traps = []
        self.cpu.on_trap = self._trap
        self.image = None

    def _trap(self, esr, _):
        at = self.cpu.engine.q[self.cpu._elr]
        entry = next((e for e in self.image.extable if self.text + e.insn_off == at), None)
        self.traps.append((at, entry))
        self.cpu.stop()

    def call(self, insns, *args, calls=None, stack_depth=64, **kwargs):
        request = JitRequest(
            insns, stack_depth, False, self.text, lambda i, insn: (calls or {})[insn.imm], arena=self.arena, **kwargs
        )
        self.image = JIT.compile(request)
        self.traps = []
        self.space.write(self.text, self.image.code)
        self.cpu.flush_code()
        self.cpu.push_return(self.stack, self.stop)
        self.cpu.enter_kernel(self.text, self.stack, args)
        self.cpu.run(0, self.stop)
        return self.cpu.result


@pytest.fixture(scope="module")
def guest():
    pytest.importorskip("unicorn")
    return Guest()


def ld64(dst, value):
    return [Insn(b.LD_IMM64, dst, 0, 0, s32(value)), Insn(0, 0, 0, 0, s32(value >> 32))]


def mov(dst, src):
    return Insn(b.BPF_ALU64 | b.BPF_MOV | b.BPF_X, dst, src)


def alu_model(op, is64, dst, src, off=0):
    bits, mask = (64, M64) if is64 else (32, M32)
    signed = s64 if is64 else s32
    d, s = dst & mask, src & mask
    sd, ss = signed(d), signed(s)
    trunc = lambda a, c: abs(a) // abs(c) * (1 if (a < 0) == (c < 0) else -1)  # noqa: E731
    if op in (b.BPF_DIV, b.BPF_MOD) and s == 0:
        result = 0 if op == b.BPF_DIV else d
    elif op in (b.BPF_DIV, b.BPF_MOD) and off:
        result = trunc(sd, ss) if op == b.BPF_DIV else sd - trunc(sd, ss) * ss
    else:
        result = {
            b.BPF_ADD: lambda: d + s, b.BPF_SUB: lambda: d - s, b.BPF_MUL: lambda: d * s, b.BPF_OR: lambda: d | s,
            b.BPF_AND: lambda: d & s, b.BPF_XOR: lambda: d ^ s, b.BPF_DIV: lambda: d // s, b.BPF_MOD: lambda: d % s,
            b.BPF_LSH: lambda: d << (s % bits), b.BPF_RSH: lambda: d >> (s % bits),
            b.BPF_ARSH: lambda: sd >> (s % bits), b.BPF_MOV: lambda: s,
        }[op]()
    return result & mask


WORD = st.one_of(
    st.integers(0, M64),
    st.sampled_from([0, 1, M64, 1 << 63, (1 << 63) - 1, 1 << 31, M32, 0xFFF, 0x1000, 0xFFFF_FFFF_8000_0000]),
)
IMM = st.one_of(st.integers(-(1 << 31), (1 << 31) - 1), st.sampled_from([0, 1, -1, 4095, 4096, -4095, -4096, 0xFFF000]))
ALU = [b.BPF_ADD, b.BPF_SUB, b.BPF_MUL, b.BPF_OR, b.BPF_AND, b.BPF_XOR, b.BPF_DIV, b.BPF_MOD, b.BPF_LSH, b.BPF_RSH,
       b.BPF_ARSH, b.BPF_MOV]  # fmt: skip
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(op=st.sampled_from(ALU), is64=st.booleans(), x=WORD, y=WORD, signed=st.booleans())
@example(op=b.BPF_DIV, is64=True, x=1 << 63, y=M64, signed=True)
@example(op=b.BPF_MOD, is64=False, x=5, y=0, signed=False)
def test_alu_by_register(guest, op, is64, x, y, signed):
    off = int(signed and op in (b.BPF_DIV, b.BPF_MOD))
    cls = b.BPF_ALU64 if is64 else b.BPF_ALU
    got = guest.call([Insn(cls | op | b.BPF_X, 1, 2, off), mov(0, 1), EXIT], x, y)
    assert got == alu_model(op, is64, x, y, off)


@quick
@given(op=st.sampled_from(ALU), is64=st.booleans(), x=WORD, imm=IMM)
def test_alu_by_immediate(guest, op, is64, x, imm):
    if op in (b.BPF_LSH, b.BPF_RSH, b.BPF_ARSH):
        imm %= 64 if is64 else 32
    if op in (b.BPF_DIV, b.BPF_MOD) and not imm:
        imm = 1
    cls = b.BPF_ALU64 if is64 else b.BPF_ALU
    got = guest.call([Insn(cls | op | b.BPF_K, 1, 0, 0, imm), mov(0, 1), EXIT], x)
    assert got == alu_model(op, is64, x, imm & M64)


@pytest.mark.parametrize("is64", [False, True])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_sign_extending_moves_and_negation(guest, is64, bits):
    if bits == 32 and not is64:
        return
    value = 0x0123_4567_89AB_CDEF
    cls, mask = (b.BPF_ALU64, M64) if is64 else (b.BPF_ALU, M32)
    low = value & (1 << bits) - 1
    expected = (low - (1 << bits) if low >> bits - 1 else low) & mask
    assert guest.call([Insn(cls | b.BPF_MOV | b.BPF_X, 0, 1, bits), EXIT], value) == expected
    assert guest.call([Insn(cls | b.BPF_NEG, 1), mov(0, 1), EXIT], value) == -value & mask


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_byte_order(guest, bits):
    value = 0x0123_4567_89AB_CDEF
    low = value & (1 << bits) - 1
    swapped = int.from_bytes(low.to_bytes(bits // 8, "little"), "big")
    for code, expected in (
        (b.BPF_ALU | b.BPF_END | b.BPF_TO_LE, low),
        (b.BPF_ALU | b.BPF_END | b.BPF_TO_BE, swapped),
        (b.BPF_ALU64 | b.BPF_END, swapped),
    ):
        assert guest.call([Insn(code, 1, 0, 0, bits), mov(0, 1), EXIT], value) == expected


JUMPS = {
    b.BPF_JEQ: lambda u, v, s, t: u == v, b.BPF_JNE: lambda u, v, s, t: u != v, b.BPF_JGT: lambda u, v, s, t: u > v,
    b.BPF_JGE: lambda u, v, s, t: u >= v, b.BPF_JLT: lambda u, v, s, t: u < v, b.BPF_JLE: lambda u, v, s, t: u <= v,
    b.BPF_JSGT: lambda u, v, s, t: s > t, b.BPF_JSGE: lambda u, v, s, t: s >= t, b.BPF_JSLT: lambda u, v, s, t: s < t,
    b.BPF_JSLE: lambda u, v, s, t: s <= t, b.BPF_JSET: lambda u, v, s, t: bool(u & v),
}  # fmt: skip


@quick
@given(op=st.sampled_from(sorted(JUMPS)), is64=st.booleans(), x=WORD, imm=IMM, by_reg=st.booleans())
@example(op=b.BPF_JEQ, is64=True, x=(-4096) & M64, imm=-4096, by_reg=False)
@example(op=b.BPF_JLT, is64=False, x=5, imm=-1, by_reg=False)
def test_conditional_jumps(guest, op, is64, x, imm, by_reg):
    cls, mask, signed = (b.BPF_JMP, M64, s64) if is64 else (b.BPF_JMP32, M32, s32)
    jump = Insn(cls | op | (b.BPF_X if by_reg else b.BPF_K), 1, 2 if by_reg else 0, 2, 0 if by_reg else imm)
    program = [jump, Insn(b.BPF_ALU64 | b.BPF_MOV, 0, 0, 0, 0), EXIT, Insn(b.BPF_ALU64 | b.BPF_MOV, 0, 0, 0, 1), EXIT]
    u, v = x & mask, imm & mask
    assert guest.call(program, x, imm & M64) == int(JUMPS[op](u, v, signed(u), signed(v)))


def test_loops_and_long_jumps(guest):
    loop = [
        Insn(b.BPF_ALU64 | b.BPF_MOV, 0, 0, 0, 0),
        Insn(b.BPF_ALU64 | b.BPF_ADD | b.BPF_X, 0, 1),
        Insn(b.BPF_ALU64 | b.BPF_SUB, 1, 0, 0, 1),
        Insn(b.BPF_JMP | b.BPF_JNE, 1, 0, -3, 0),
        Insn(b.BPF_JMP32 | b.BPF_JA, 0, 0, 0, 1),
        Insn(b.BPF_ALU64 | b.BPF_MOV, 0, 0, 0, 7),
        EXIT,
    ]
    assert guest.call(loop, 1000) == 500500


@pytest.mark.parametrize(
    "value", [0, 1, M64, 0xFFFF_0000_1234_0000, 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFF_0000_FFFF, 1 << 48]
)
def test_immediate_loads(guest, value):
    assert guest.call([*ld64(0, value), EXIT]) == value
    first, second = ld64(0, value)
    first.src = b.BPF_PSEUDO_FUNC  # a function's address, which the caller knows by the instruction
    assert guest.call([first, second, EXIT], calls={first.imm: value}) == value
    assert guest.call([first, second, EXIT], calls={first.imm: value ^ 0xFF00}) == value ^ 0xFF00


@pytest.mark.parametrize("offset", [0, 8, -8, 1, -256, 255, 256, -257, 4088, 3001, -3000])
@pytest.mark.parametrize("size", [b.BPF_B, b.BPF_H, b.BPF_W, b.BPF_DW])
def test_loads_and_stores_at_every_kind_of_offset(guest, size, offset):
    n = b.SIZE_BYTES[size]
    at = guest.data + 4096
    value = 0xF1E2_D3C4_B5A6_9788
    guest.space.fill(guest.data, 8192)
    guest.call([Insn(b.BPF_STX | b.BPF_MEM | size, 1, 2, offset), EXIT], at, value)
    assert guest.space.read(at + offset, n) == (value & (1 << 8 * n) - 1).to_bytes(n, "little")
    assert guest.space.read(guest.data, 8192).count(0) == 8192 - n
    low = value & (1 << 8 * n) - 1
    assert guest.call([Insn(b.BPF_LDX | b.BPF_MEM | size, 0, 1, offset), EXIT], at) == low
    if n < 8:
        signed = (low - (1 << 8 * n)) & M64
        assert guest.call([Insn(b.BPF_LDX | b.BPF_MEMSX | size, 0, 1, offset), EXIT], at) == signed
    guest.call([Insn(b.BPF_ST | b.BPF_MEM | size, 1, 0, offset, -2), EXIT], at)
    assert guest.space.read(at + offset, n) == b"\xfe" + b"\xff" * (n - 1)


def test_bpf_stack_and_all_callee_saved_registers(guest):
    program = []
    for i, reg in enumerate((6, 7, 8, 9)):
        program.append(Insn(b.BPF_ALU64 | b.BPF_MOV, reg, 0, 0, 10 + i))
        program.append(Insn(b.BPF_STX | b.BPF_MEM | b.BPF_DW, 10, reg, -8 * (i + 1)))
    program.append(Insn(b.BPF_ALU64 | b.BPF_MOV, 0, 0, 0, 0))
    for i in range(4):
        program.append(Insn(b.BPF_LDX | b.BPF_MEM | b.BPF_DW, 1, 10, -8 * (i + 1)))
        program.append(Insn(b.BPF_ALU64 | b.BPF_ADD | b.BPF_X, 0, 1))
    assert guest.call([*program, EXIT], stack_depth=32) == 10 + 11 + 12 + 13
    assert guest.cpu.sp == guest.stack
    assert [guest.cpu.engine.read(register) for register in _x(19, 20, 21, 22, 25, 26, 27, 28)] == [0] * 8


def _x(*numbers):
    from unicorn import arm64_const

    return [getattr(arm64_const, f"UC_ARM64_REG_X{n}") for n in numbers]


@pytest.mark.parametrize("size", [b.BPF_W, b.BPF_DW])
@pytest.mark.parametrize("off", [0, 16, -24])
@pytest.mark.parametrize("op", [b.BPF_ADD, b.BPF_AND, b.BPF_OR, b.BPF_XOR])
def test_atomics(guest, size, off, op):
    n, at = b.SIZE_BYTES[size], guest.data + 2048
    mask = (1 << 8 * n) - 1
    old, operand = 0xF0F0_1234_8765_4321 & mask, 0x0FF0_FF00_F00F_1111
    new = {b.BPF_ADD: old + operand, b.BPF_AND: old & operand, b.BPF_OR: old | operand, b.BPF_XOR: old ^ operand}[op]
    for fetch in (0, b.BPF_FETCH):
        guest.space.write(at + off, old.to_bytes(n, "little"))
        program = [Insn(b.BPF_STX | b.BPF_ATOMIC | size, 1, 2, off, op | fetch), mov(0, 2), EXIT]
        assert guest.call(program, at, operand) == (old if fetch else operand)
        assert guest.space.read(at + off, n) == (new & mask).to_bytes(n, "little")


@pytest.mark.parametrize("size", [b.BPF_W, b.BPF_DW])
def test_exchange_and_compare_exchange(guest, size):
    n, at = b.SIZE_BYTES[size], guest.data
    mask = (1 << 8 * n) - 1
    atomic = b.BPF_STX | b.BPF_ATOMIC | size
    guest.space.write_u64(at, 5)
    assert guest.call([Insn(atomic, 1, 2, 0, b.BPF_XCHG), mov(0, 2), EXIT], at, 9) == 5
    assert guest.space.read_u64(at) == 9
    swap = [mov(0, 3), Insn(atomic, 1, 2, 0, b.BPF_CMPXCHG), EXIT]
    assert guest.call(swap, at, 77, 8) == 9 and guest.space.read_u64(at) == 9
    assert guest.call(swap, at, 77, 9) == 9 and guest.space.read_u64(at) == 77 & mask


@pytest.mark.parametrize("size", [b.BPF_B, b.BPF_H, b.BPF_W, b.BPF_DW])
def test_acquire_and_release(guest, size):
    at, mask = guest.data, (1 << 8 * b.SIZE_BYTES[size]) - 1
    guest.space.write_u64(at + 8, 0)
    guest.call([Insn(b.BPF_STX | b.BPF_ATOMIC | size, 1, 2, 8, b.BPF_STORE_REL), EXIT], at, M64)
    assert guest.space.read_u64(at + 8) == mask
    assert guest.call([Insn(b.BPF_STX | b.BPF_ATOMIC | size, 0, 1, 8, b.BPF_LOAD_ACQ), EXIT], at) == mask


def test_calls_move_the_result_but_timed_may_goto_keeps_r0(guest):
    # mov x0, #42; mov x9, #3; ret
    function = guest.text + 4096
    guest.space.write(function, b"".join(w.to_bytes(4, "little") for w in (0xD2800540, 0xD2800069, 0xD65F03C0)))
    program = [Insn(b.BPF_ALU64 | b.BPF_MOV, 0, 0, 0, 7), Insn(b.BPF_JMP | b.BPF_CALL, 0, 0, 0, 1), EXIT]
    assert guest.call(program, calls={1: function}) == 42
    assert guest.call(program, calls={1: function}, timed_may_goto=function) == 7
    program.insert(2, mov(0, b.BPF_REG_AX))
    assert guest.call(program, calls={1: function}, timed_may_goto=function) == 3


def test_arena_accesses_add_the_base(guest):
    pointer = 0x3010
    at = guest.arena.kern_vm_start + pointer
    guest.space.write_u64(at, 0)
    guest.call([Insn(b.BPF_STX | b.BPF_PROBE_MEM32 | b.BPF_DW, 1, 2, 0), EXIT], pointer, 0x8877_6655_4433_2211)
    assert guest.space.read_u64(at) == 0x8877_6655_4433_2211
    for mode, size, expected in (
        (b.BPF_PROBE_MEM32, b.BPF_W, 0x4433_2211),
        (b.BPF_PROBE_MEM32SX, b.BPF_B, 0xFFFF_FFFF_FFFF_FF88),
    ):
        off = 7 if mode == b.BPF_PROBE_MEM32SX else 0
        assert guest.call([Insn(b.BPF_LDX | mode | size, 0, 1, off), EXIT], pointer) == expected
    guest.call([Insn(b.BPF_ST | b.BPF_PROBE_MEM32 | b.BPF_B, 1, 0, 1, 5), EXIT], pointer)
    assert guest.space.read_u8(at + 1) == 5
    add = Insn(b.BPF_STX | b.BPF_PROBE_ATOMIC | b.BPF_DW, 1, 2, 8, b.BPF_ADD | b.BPF_FETCH)
    guest.space.write_u64(at + 8, 30)
    assert guest.call([add, mov(0, 2), EXIT], pointer, 12) == 30 and guest.space.read_u64(at + 8) == 42


@pytest.mark.parametrize(
    ("insn", "dst", "register"),
    [
        (Insn(b.BPF_LDX | b.BPF_PROBE_MEM32 | b.BPF_W, 6, 1, -8), 19, 0),
        (Insn(b.BPF_STX | b.BPF_PROBE_MEM32 | b.BPF_DW, 1, 2, 0x7FF0), 5, 0),
        (Insn(b.BPF_STX | b.BPF_PROBE_ATOMIC | b.BPF_DW, 3, 2, 16, b.BPF_XCHG), 5, 2),
        (Insn(b.BPF_STX | b.BPF_PROBE_ATOMIC | b.BPF_DW, 1, 3, 4, b.BPF_LOAD_ACQ), 5, 0),  # the kernel's quirk
    ],
)
def test_arena_faults_hit_their_exception_entry(guest, insn, dst, register):
    guest.call([insn, EXIT], 0x8000, 0, 0x8000)
    (at, entry), = guest.traps
    assert entry is not None, "the faulting instruction has an entry"
    fixup = entry.fixup
    assert fixup >> 27 == dst and fixup >> 16 & 31 == register and fixup & 1 << 21
    assert s16(fixup) == insn.off
    assert entry.fixup_off == entry.insn_off + 4 and entry.type_data == 1


def test_probe_mem_entry_is_no_arena_access(guest):
    guest.call([Insn(b.BPF_LDX | b.BPF_PROBE_MEM | b.BPF_DW, 7, 1, 8), EXIT], guest.data + 0x10000)
    assert guest.traps[0][1].fixup == 20 << 27


def test_address_space_casts(guest):
    cast = [Insn(b.BPF_ALU64 | b.BPF_MOV | b.BPF_X, 0, 1, 1, 1 << 16), EXIT]
    assert guest.call(cast, 0xFFFF_FFFF_0000_1234) == USER_VM_START >> 32 << 32 | 0x1234
    assert guest.call(cast, 0xFFFF_FFFF_0000_0000) == 0
    cast[0].imm = 1
    assert guest.call(cast, 0xFFFF_FFFF_0000_1234) == 0x1234
    percpu = [Insn(b.BPF_ALU64 | b.BPF_MOV | b.BPF_X, 0, 1, -1), EXIT]
    assert guest.call(percpu, 0x20) == guest.percpu + 0x20


def test_offsets_are_where_instructions_start(guest):
    insns = [*ld64(0, 0x1234_5678_9ABC), mov(1, 0), EXIT]
    image = JIT.compile(JitRequest(insns, 0, False, guest.text, lambda i, insn: 0))
    first, second, third, fourth, end = image.insn_offsets
    assert second - first == 12 and third == second and fourth - third == 4 and end == fourth
    assert image.code[:4] == (0xD50324DF).to_bytes(4, "little")


@pytest.mark.parametrize(
    "insn",
    [Insn(b.BPF_JMP | 0xF0), Insn(b.BPF_LD | b.BPF_ABS), Insn(b.BPF_STX | b.BPF_ATOMIC | b.BPF_B, 1, 2, 0, b.BPF_ADD)],
)
def test_what_is_unknown_is_refused_by_name(guest, insn):
    with pytest.raises(NotImplementedError, match="insn 0: no translation of opcode"):
        JIT.compile(JitRequest([insn, EXIT], 0, False, guest.text, lambda i, insn: 0))
    for flag in ("exception_boundary", "tail_call_reachable"):
        with pytest.raises(NotImplementedError, match="arm64 JIT"):
            JIT.compile(JitRequest([EXIT], 0, False, guest.text, lambda i, insn: 0, **{flag: True}))
