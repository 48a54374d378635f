"""arch/arm64/insn.py: every encoder, read back by a disassembler."""

import capstone
import pytest

from arch.arm64 import insn as a64

CASES = [
    (a64.reg3(a64.ADD, 1, 0, 1, 2), "add x0, x1, x2"),
    (a64.reg3(a64.SUBS, 0, a64.ZR, 1, 2), "cmp w1, w2"),
    (a64.reg3(a64.ANDS, 1, a64.ZR, 3, 4), "tst x3, x4"),
    (a64.reg3(a64.ORN, 1, 12, a64.ZR, 5), "mvn x12, x5"),
    (a64.reg3(a64.SDIV, 0, 1, 2, 3), "sdiv w1, w2, w3"),
    (a64.reg3(a64.ASRV, 1, 1, 2, 3), "asr x1, x2, x3"),
    (a64.mov(1, 7, 0), "mov x7, x0"),
    (a64.mov_sp(29, a64.SP), "mov x29, sp"),
    (a64.mul(1, 1, 2, 3), "mul x1, x2, x3"),
    (a64.msub(0, 1, 2, 3, 4), "msub w1, w3, w4, w2"),
    (a64.add_imm(1, 31, 31, 4095), "add sp, sp, #0xfff"),
    (a64.sub_imm(1, 0, 1, 0x5000), "sub x0, x1, #5, lsl #12"),
    (a64.cmp_imm(0, 3, 7), "cmp w3, #7"),
    (a64.cmn_imm(1, 3, 7), "cmn x3, #7"),
    (a64.lsl(1, 1, 2, 13), "lsl x1, x2, #0xd"),
    (a64.lsr(0, 1, 2, 31), "lsr w1, w2, #0x1f"),
    (a64.asr(1, 1, 2, 63), "asr x1, x2, #0x3f"),
    (a64.sign_extend(1, 1, 2, 32), "sxtw x1, w2"),
    (a64.sign_extend(0, 1, 2, 8), "sxtb w1, w2"),
    (a64.zero_extend(1, 2, 16), "uxth w1, w2"),
    (a64.rev16(1, 2), "rev16 w1, w2"),
    (a64.rev(1, 1, 2), "rev x1, x2"),
    (a64.load(3, 1, 2, 32760), "ldr x1, [x2, #0x7ff8]"),
    (a64.load(2, 1, 2, -4, signed=True), "ldursw x1, [x2, #-4]"),
    (a64.load(0, 1, 2, 5), "ldrb w1, [x2, #5]"),
    (a64.store(1, 1, 2, 255), "sturh w1, [x2, #0xff]"),
    (a64.load_reg(1, 1, 2, 3, signed=True), "ldrsh x1, [x2, x3]"),
    (a64.store_reg(3, 1, 2, 3), "str x1, [x2, x3]"),
    (a64.push(29, 30), "stp x29, x30, [sp, #-0x10]!"),
    (a64.pop(29, 30), "ldp x29, x30, [sp], #0x10"),
    (a64.atomic(a64.LDADD, 3, 1, 2, 3, ordered=True), "ldaddal x1, x2, [x3]"),
    (a64.atomic(a64.LDCLR, 2, 1, a64.ZR, 3, ordered=False), "stclr w1, [x3]"),
    (a64.atomic(a64.SWP, 3, 1, 1, 3, ordered=True), "swpal x1, x1, [x3]"),
    (a64.casal(2, 7, 1, 3), "casal w7, w1, [x3]"),
    (a64.ldar(0, 1, 2), "ldarb w1, [x2]"),
    (a64.stlr(3, 1, 2), "stlr x1, [x2]"),
    (a64.mrs_tpidr_el1(10), "mrs x10, tpidr_el1"),
    (a64.branch(-8), "b #0xff8"),
    (a64.branch_cond(a64.HI, 16), "b.hi #0x1010"),
    (a64.cbz(1, 10, 8), "cbz x10, #0x1008"),
    (a64.blr(10), "blr x10"),
    (a64.PACIASP, "paciasp"),
    (a64.BTI_JC, "bti jc"),
    (a64.BTI_J, "bti j"),
]


def disassemble(*words):
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    code = b"".join(word.to_bytes(4, "little") for word in words)
    return [f"{i.mnemonic} {i.op_str}".strip() for i in decoder.disasm(code, 0x1000)]


@pytest.mark.parametrize(("word", "text"), CASES, ids=[text for _, text in CASES])
def test_encoding(word, text):
    assert disassemble(word) == [text]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, 1), (0xFFFF, 1), (1 << 48, 1), (0xFFFF_FFFF_FFFF_FFFF, 1), (0xFFFF_8000_0000_0000, 2), (0x1_0000_0001, 2),
     (0xFFFF_8000_7C00_1234, 3), (0x1234_5678_9ABC_DEF0, 4)],
)  # fmt: skip
def test_constants_take_as_few_words_as_they_can(value, words):
    assert len(a64.mov_imm(1, 0, value)) == words
    assert len(a64.mov_fixed(0, value)) == 4


def test_what_does_not_fit_is_refused():
    assert a64.load(3, 1, 2, 32768) is None and a64.store(2, 1, 2, -257) is None and a64.load(3, 1, 2, 4095) is None
    assert not a64.fits_imm12(4097) and a64.fits_imm12(0xFFF000)
    for bad in (
        lambda: a64.add_imm(1, 0, 0, 4097),
        lambda: a64.branch(2),
        lambda: a64.branch_cond(0, 1 << 21),
        lambda: a64.mov_kernel_address(0, 0x1000),
    ):
        with pytest.raises(ValueError):
            bad()
