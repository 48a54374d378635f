"""A64 instruction words: the encodings that the BPF JIT uses.

Mirrors arch/arm64/lib/insn.c and arch/arm64/net/bpf_jit.h. Registers are 0..31 (31 is sp or zr, as the instruction
has it), `sf` is 1 for the 64-bit form, offsets are bytes. ValueError where an operand does not fit.
"""

from __future__ import annotations

ZR = SP = 31
FP, LR = 29, 30

EQ, NE, CS, CC, HI, LS, GE, LT, GT, LE = 0, 1, 2, 3, 8, 9, 10, 11, 12, 13

NOP = 0xD503201F
BTI_J, BTI_JC = 0xD503249F, 0xD50324DF
PACIASP, AUTIASP = 0xD503233F, 0xD50323BF
RET = 0xD65F03C0

_MASK64 = 0xFFFF_FFFF_FFFF_FFFF

# three-register operations: opcode of the 32-bit form
ADD, SUB, SUBS = 0x0B000000, 0x4B000000, 0x6B000000
AND, ORR, EOR, ANDS, ORN = 0x0A000000, 0x2A000000, 0x4A000000, 0x6A000000, 0x2A200000
UDIV, SDIV = 0x1AC00800, 0x1AC00C00
LSLV, LSRV, ASRV = 0x1AC02000, 0x1AC02400, 0x1AC02800
_ADD_IMM, _SUB_IMM, _ADDS_IMM, _SUBS_IMM = 0x11000000, 0x51000000, 0x31000000, 0x71000000

# atomic operations of FEAT_LSE (opc of LD<op>; SWP has bit 15)
LDADD, LDCLR, LDEOR, LDSET, SWP = 0x0000, 0x1000, 0x2000, 0x3000, 0x8000


def reg3(op: int, sf: int, rd: int, rn: int, rm: int) -> int:
    """rd = rn op rm."""
    return op | sf << 31 | rm << 16 | rn << 5 | rd


def mov(sf: int, rd: int, rm: int) -> int:
    """rd = rm, neither being sp."""
    return reg3(ORR, sf, rd, ZR, rm)


def mov_sp(rd: int, rn: int) -> int:
    """rd = rn where one of them is sp."""
    return add_imm(1, rd, rn, 0)


def mul(sf: int, rd: int, rn: int, rm: int) -> int:
    """rd = rn * rm."""
    return 0x1B007C00 | sf << 31 | rm << 16 | rn << 5 | rd


def msub(sf: int, rd: int, ra: int, rn: int, rm: int) -> int:
    """rd = ra - rn * rm."""
    return 0x1B008000 | sf << 31 | rm << 16 | ra << 10 | rn << 5 | rd


def _imm12(op: int, sf: int, rd: int, rn: int, imm: int) -> int:
    if 0 <= imm < 1 << 12:
        return op | sf << 31 | imm << 10 | rn << 5 | rd
    if imm & 0xFFF == 0 and 0 <= imm < 1 << 24:
        return op | sf << 31 | 1 << 22 | imm >> 12 << 10 | rn << 5 | rd
    raise ValueError(f"{imm:#x} is no immediate of an addition")


def fits_imm12(imm: int) -> bool:
    """True where add_imm() and its kin take `imm`."""
    return 0 <= imm < 1 << 12 or (imm & 0xFFF == 0 and 0 <= imm < 1 << 24)


def add_imm(sf: int, rd: int, rn: int, imm: int) -> int:
    """rd = rn + imm."""
    return _imm12(_ADD_IMM, sf, rd, rn, imm)


def sub_imm(sf: int, rd: int, rn: int, imm: int) -> int:
    """rd = rn - imm."""
    return _imm12(_SUB_IMM, sf, rd, rn, imm)


def cmp_imm(sf: int, rn: int, imm: int) -> int:
    """Flags of rn - imm."""
    return _imm12(_SUBS_IMM, sf, ZR, rn, imm)


def cmn_imm(sf: int, rn: int, imm: int) -> int:
    """Flags of rn + imm."""
    return _imm12(_ADDS_IMM, sf, ZR, rn, imm)


def _bitfield(op: int, sf: int, rd: int, rn: int, immr: int, imms: int) -> int:
    return op | sf << 31 | sf << 22 | immr << 16 | imms << 10 | rn << 5 | rd


def lsl(sf: int, rd: int, rn: int, shift: int) -> int:
    """rd = rn << shift."""
    width = 32 << sf
    return _bitfield(0x53000000, sf, rd, rn, -shift % width, width - 1 - shift)


def lsr(sf: int, rd: int, rn: int, shift: int) -> int:
    """rd = rn >> shift, unsigned."""
    return _bitfield(0x53000000, sf, rd, rn, shift, (32 << sf) - 1)


def asr(sf: int, rd: int, rn: int, shift: int) -> int:
    """rd = rn >> shift, signed."""
    return _bitfield(0x13000000, sf, rd, rn, shift, (32 << sf) - 1)


def sign_extend(sf: int, rd: int, rn: int, bits: int) -> int:
    """sxtb, sxth, sxtw: rd = the low `bits` of rn, signed."""
    return _bitfield(0x13000000, sf, rd, rn, 0, bits - 1)


def zero_extend(rd: int, rn: int, bits: int) -> int:
    """uxtb, uxth: rd = the low `bits` of rn."""
    return _bitfield(0x53000000, 0, rd, rn, 0, bits - 1)


def rev16(rd: int, rn: int) -> int:
    """Swap the bytes of each half of a 32-bit register."""
    return 0x5AC00400 | rn << 5 | rd


def rev(sf: int, rd: int, rn: int) -> int:
    """Reverse the bytes."""
    return (0xDAC00C00 if sf else 0x5AC00800) | rn << 5 | rd


def mov_imm(sf: int, rd: int, value: int) -> list[int]:
    """The shortest movz or movn with movk that makes rd = value (modulo the register's width)."""
    width = 32 << sf
    value &= (1 << width) - 1
    halves = [value >> shift & 0xFFFF for shift in range(0, width, 16)]
    invert = halves.count(0xFFFF) > halves.count(0)
    idle = 0xFFFF if invert else 0
    first = next((i for i, half in enumerate(halves) if half != idle), 0)
    start = 0x12800000 | (halves[first] ^ 0xFFFF) << 5 if invert else 0x52800000 | halves[first] << 5
    words = [start | sf << 31 | first << 21 | rd]
    return words + [_movk(sf, rd, i, half) for i, half in enumerate(halves) if i != first and half != idle]


def _movk(sf: int, rd: int, index: int, half: int) -> int:
    return 0x72800000 | sf << 31 | index << 21 | half << 5 | rd


def mov_fixed(rd: int, value: int) -> list[int]:
    """rd = value in four words whatever the value: for addresses that are not known yet."""
    halves = [(value & _MASK64) >> shift & 0xFFFF for shift in range(0, 64, 16)]
    return [0xD2800000 | halves[0] << 5 | rd] + [_movk(1, rd, i, halves[i]) for i in (1, 2, 3)]


def mov_kernel_address(rd: int, value: int) -> list[int]:
    """rd = value in three words: kernel addresses have 0xffff on top (emit_addr_mov_i64())."""
    if value >> 48 != 0xFFFF:
        raise ValueError(f"{value:#x} is no kernel address")
    low = (value & 0xFFFF) ^ 0xFFFF
    return [0x92800000 | low << 5 | rd, _movk(1, rd, 1, value >> 16 & 0xFFFF), _movk(1, rd, 2, value >> 32 & 0xFFFF)]


# -- memory ----------------------------------------------------------------------------------------------------------

_LOAD, _STORE, _LOAD_SIGNED = 0x400000, 0, 0x800000  # opc; signed loads extend to 64 bits


def _access(kind: int, size: int, rt: int, rn: int, offset: int) -> int | None:
    """Immediate form, None where `offset` fits neither the scaled nor the unscaled one. `size` is log2 of bytes."""
    scaled = offset >> size
    if offset >= 0 and scaled << size == offset and scaled < 1 << 12:
        return 0x39000000 | size << 30 | kind | scaled << 10 | rn << 5 | rt
    if -256 <= offset < 256:
        return 0x38000000 | size << 30 | kind | (offset & 0x1FF) << 12 | rn << 5 | rt
    return None


def load(size: int, rt: int, rn: int, offset: int, *, signed: bool = False) -> int | None:
    """rt = [rn + offset], zero or sign extended to 64 bits; None where the offset needs a register."""
    return _access(_LOAD_SIGNED if signed else _LOAD, size, rt, rn, offset)


def store(size: int, rt: int, rn: int, offset: int) -> int | None:
    """[rn + offset] = rt; None where the offset needs a register."""
    return _access(_STORE, size, rt, rn, offset)


def load_reg(size: int, rt: int, rn: int, rm: int, *, signed: bool = False) -> int:
    """rt = [rn + rm]."""
    return 0x38206800 | size << 30 | (_LOAD_SIGNED if signed else _LOAD) | rm << 16 | rn << 5 | rt


def store_reg(size: int, rt: int, rn: int, rm: int) -> int:
    """[rn + rm] = rt."""
    return 0x38206800 | size << 30 | rm << 16 | rn << 5 | rt


def push(rt: int, rt2: int) -> int:
    """stp rt, rt2, [sp, #-16]!"""
    return 0xA9800000 | (-2 & 0x7F) << 15 | rt2 << 10 | SP << 5 | rt


def pop(rt: int, rt2: int) -> int:
    """ldp rt, rt2, [sp], #16"""
    return 0xA8C00000 | 2 << 15 | rt2 << 10 | SP << 5 | rt


def atomic(op: int, size: int, rs: int, rt: int, rn: int, *, ordered: bool) -> int:
    """LD<op> or SWP: rt = [rn], [rn] = [rn] op rs; with acquire and release where `ordered`. rt = zr: ST<op>."""
    order = 3 << 22 if ordered else 0
    return 0x38200000 | size << 30 | order | op | rs << 16 | rn << 5 | rt


def casal(size: int, rs: int, rt: int, rn: int) -> int:
    """Compare [rn] with rs, store rt if equal; rs = what was there."""
    return 0x08E0FC00 | size << 30 | rs << 16 | rn << 5 | rt


def ldar(size: int, rt: int, rn: int) -> int:
    """Load acquire."""
    return 0x08DFFC00 | size << 30 | rn << 5 | rt


def stlr(size: int, rt: int, rn: int) -> int:
    """Store release."""
    return 0x089FFC00 | size << 30 | rn << 5 | rt


def mrs_tpidr_el1(rt: int) -> int:
    """rt = this CPU's per-CPU offset."""
    return 0xD538D080 | rt


# -- branches --------------------------------------------------------------------------------------------------------


def _displacement(offset: int, bits: int) -> int:
    words = offset >> 2
    if offset & 3 or not -(1 << bits - 1) <= words < 1 << bits - 1:
        raise ValueError(f"branch by {offset} bytes")
    return words & (1 << bits) - 1


def branch(offset: int) -> int:
    """b"""
    return 0x14000000 | _displacement(offset, 26)


def branch_link(offset: int) -> int:
    """bl"""
    return 0x94000000 | _displacement(offset, 26)


def branch_cond(cond: int, offset: int) -> int:
    """b.cond"""
    return 0x54000000 | _displacement(offset, 19) << 5 | cond


def cbz(sf: int, rt: int, offset: int) -> int:
    """Branch if rt == 0."""
    return 0x34000000 | sf << 31 | _displacement(offset, 19) << 5 | rt


def blr(rn: int) -> int:
    """Call the function at rn."""
    return 0xD63F0000 | rn << 5


def ret(rn: int) -> int:
    """Return to the address in rn."""
    return 0xD65F0000 | rn << 5
