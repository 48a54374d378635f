"""The BPF instruction set: opcodes, pseudo source registers and the instruction record.

Mirrors include/uapi/linux/bpf.h and include/linux/filter.h (the encodings only). BPF is an instruction set like
the two CPUs beside it, and the JITs of both architectures read it, so it lives on the lowest floor.

        63           32 31      16 15  12 11   8 7        0
       +---------------+----------+------+------+----------+
       |   imm (s32)   | off(s16) | src  | dst  |  opcode  |
       +---------------+----------+------+------+----------+

A 64-bit immediate load (BPF_LD|BPF_IMM|BPF_DW) takes two slots; both are kept as Insn records, as in the kernel.
Left out: classic BPF, which the kernel converts before it reaches any of this.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

# instruction classes: opcode[2:0]
BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_ALU, BPF_JMP, BPF_JMP32, BPF_ALU64 = range(8)

# sizes: opcode[4:3] of LD/LDX/ST/STX
BPF_W, BPF_H, BPF_B, BPF_DW = 0x00, 0x08, 0x10, 0x18

# modes: opcode[7:5] of LD/LDX/ST/STX
BPF_IMM, BPF_ABS, BPF_IND, BPF_MEM, BPF_MEMSX, BPF_ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0
# modes that only the kernel's own rewriting produces (include/linux/filter.h)
BPF_PROBE_MEM, BPF_PROBE_MEMSX, BPF_PROBE_MEM32, BPF_PROBE_MEM32SX, BPF_PROBE_ATOMIC = 0x20, 0x40, 0xA0, 0xC0, 0xE0

# operations: opcode[7:4] of ALU/ALU64
BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH = range(0x00, 0x80, 0x10)
BPF_NEG, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH, BPF_END = range(0x80, 0xE0, 0x10)

# operations: opcode[7:4] of JMP/JMP32
BPF_JA, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT, BPF_JSGE = range(0x00, 0x80, 0x10)
BPF_CALL, BPF_EXIT, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE, BPF_JCOND = range(0x80, 0xF0, 0x10)

# operand kind: opcode[3] of ALU/JMP
BPF_K, BPF_X = 0x00, 0x08
BPF_TO_LE, BPF_TO_BE = 0x00, 0x08

# atomic operations: imm of STX|ATOMIC
BPF_FETCH = 0x01
BPF_XCHG, BPF_CMPXCHG = 0xE0 | BPF_FETCH, 0xF0 | BPF_FETCH
BPF_LOAD_ACQ, BPF_STORE_REL = 0x100, 0x110

# registers
R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)
BPF_REG_AX = 11  # MAX_BPF_REG: the kernel's scratch register, only in rewritten programs
BPF_REG_FP = R10

# src_reg of LD|IMM|DW
BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, BPF_PSEUDO_BTF_ID, BPF_PSEUDO_FUNC = 1, 2, 3, 4
BPF_PSEUDO_MAP_IDX, BPF_PSEUDO_MAP_IDX_VALUE = 5, 6
# src_reg of JMP|CALL
BPF_PSEUDO_CALL, BPF_PSEUDO_KFUNC_CALL = 1, 2
# src_reg of JMP|JCOND
BPF_MAY_GOTO = 0
# off of ALU64|MOV|X: arena address space casts; imm = (dst_as << 16) | src_as
BPF_ADDR_SPACE_CAST = 1

LD_IMM64 = BPF_LD | BPF_IMM | BPF_DW
MAX_BPF_STACK = 512
MAX_BPF_REG = 11

_SLOT = struct.Struct("<BBhi")
SIZE_BYTES = {BPF_B: 1, BPF_H: 2, BPF_W: 4, BPF_DW: 8}


@dataclass(slots=True)
class Insn:
    """One struct bpf_insn (8 bytes): `code`, `dst`, `src` unsigned; `off` s16 and `imm` s32 signed."""

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0

    @property
    def cls(self) -> int:
        """BPF_CLASS(code)."""
        return self.code & 0x07

    @property
    def op(self) -> int:
        """BPF_OP(code): the ALU or jump operation."""
        return self.code & 0xF0

    @property
    def size(self) -> int:
        """BPF_SIZE(code): one of BPF_B, BPF_H, BPF_W, BPF_DW."""
        return self.code & 0x18

    @property
    def mode(self) -> int:
        """BPF_MODE(code)."""
        return self.code & 0xE0

    @property
    def is_reg(self) -> bool:
        """True where the source operand is a register (BPF_X) and not the immediate (BPF_K)."""
        return bool(self.code & BPF_X)

    @property
    def is_ld_imm64(self) -> bool:
        """True for the first slot of a 64-bit immediate load."""
        return self.code == LD_IMM64

    def copy(self) -> Insn:
        """A separate record with the same fields."""
        return Insn(self.code, self.dst, self.src, self.off, self.imm)

    def encode(self) -> bytes:
        """The 8 bytes of struct bpf_insn, little endian."""
        return _SLOT.pack(self.code, (self.src << 4) | self.dst, self.off, self.imm)


def decode(data: bytes | memoryview) -> list[Insn]:
    """Decode consecutive struct bpf_insn; `len(data)` must be a multiple of 8 (struct.error otherwise)."""
    return [Insn(code, regs & 15, regs >> 4, off, imm) for code, regs, off, imm in _SLOT.iter_unpack(data)]


def encode(insns: Iterable[Insn]) -> bytes:
    """The bytes of a program, as BPF_PROG_LOAD takes them."""
    return b"".join(i.encode() for i in insns)


def imm64(first: Insn, second: Insn) -> int:
    """The unsigned 64-bit value of a two-slot immediate load."""
    return (first.imm & 0xFFFFFFFF) | ((second.imm & 0xFFFFFFFF) << 32)


def s16(v: int) -> int:
    """Wrap to a signed 16-bit value."""
    v &= 0xFFFF
    return v - 0x10000 if v & 0x8000 else v


def s32(v: int) -> int:
    """Wrap to a signed 32-bit value."""
    v &= 0xFFFFFFFF
    return v - 0x1_0000_0000 if v & 0x8000_0000 else v


def s64(v: int) -> int:
    """Wrap to a signed 64-bit value."""
    v &= 0xFFFF_FFFF_FFFF_FFFF
    return v - 0x1_0000_0000_0000_0000 if v & 0x8000_0000_0000_0000 else v
