"""kernel_model/bpf/disasm.py: the text of every kind of instruction (kernel/bpf/disasm.c)."""

import pytest

from arch import bpf_isa as b
from arch.bpf_isa import Insn
from kernel_model.bpf.disasm import helper_name, insn_text

M = b.BPF_MEM
CASES = [
    (Insn(0xBF, 6, 1), "(bf) r6 = r1"),
    (Insn(0xB7, 0, 0, 0, -1), "(b7) r0 = -1"),
    (Insn(0xB4, 2, 0, 0, 5), "(b4) w2 = 5"),
    (Insn(0xBF, 1, 2, 8), "(bf) r1 = (s8)r2"),
    (Insn(0xBC, 1, 2, 16), "(bc) w1 = (s16)w2"),
    (Insn(0xBF, 1, 2, 1, 1 << 16), "(bf) r1 = addr_space_cast(r2, 1, 0)"),
    (Insn(0xBF, 1, 2, 1, 1), "(bf) r1 = addr_space_cast(r2, 0, 1)"),
    (Insn(0x0F, 1, 2), "(0f) r1 += r2"),
    (Insn(0x07, 10, 0, 0, -8), "(07) r10 += -8"),
    (Insn(0x3F, 1, 2, 1), "(3f) r1 s/= r2"),
    (Insn(0x97, 1, 0, 0, 7), "(97) r1 %= 7"),
    (Insn(0xC7, 1, 0, 0, 32), "(c7) r1 s>>= 32"),
    (Insn(0x87, 3), "(87) r3 = -r3"),
    (Insn(0xDC, 1, 0, 0, 16), "(dc) r1 = be16 r1"),
    (Insn(0xD4, 1, 0, 0, 64), "(d4) r1 = le64 r1"),
    (Insn(0xD7, 1, 0, 0, 32), "(d7) r1 = bswap32 r1"),
    (Insn(b.BPF_LDX | M | b.BPF_W, 1, 0, 0), "(61) r1 = *(u32 *)(r0 +0)"),
    (Insn(b.BPF_LDX | b.BPF_MEMSX | b.BPF_B, 1, 10, -4), "(91) r1 = *(s8 *)(r10 -4)"),
    (Insn(b.BPF_STX | M | b.BPF_DW, 10, 1, -8), "(7b) *(u64 *)(r10 -8) = r1"),
    (Insn(b.BPF_ST | M | b.BPF_H, 1, 0, 2, -3), "(6a) *(u16 *)(r1 +2) = -3"),
    (Insn(0xDB, 1, 2, 0, b.BPF_ADD), "(db) lock *(u64 *)(r1 +0) += r2"),
    (Insn(0xC3, 1, 2, 4, b.BPF_XOR | 1), "(c3) r2 = atomic_fetch_xor((u32 *)(r1 +4), r2)"),
    (Insn(0xDB, 1, 2, 0, b.BPF_CMPXCHG), "(db) r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)"),
    (Insn(0xDB, 1, 2, 0, b.BPF_XCHG), "(db) r2 = atomic64_xchg((u64 *)(r1 +0), r2)"),
    (Insn(0xD3, 1, 2, 1, b.BPF_LOAD_ACQ), "(d3) r1 = load_acquire((u8 *)(r2 +1))"),
    (Insn(0xDB, 1, 2, 0, b.BPF_STORE_REL), "(db) store_release((u64 *)(r1 +0), r2)"),
    (Insn(0x05, off=-3), "(05) goto pc-3"),
    (Insn(0x06, imm=70000), "(06) gotol pc+70000"),
    (Insn(0xE5, off=5), "(e5) may_goto pc+5"),
    (Insn(0x15, 1, 0, 2, 0), "(15) if r1 == 0x0 goto pc+2"),
    (Insn(0xA6, 1, 0, 1, -1), "(a6) if w1 < 0xffffffff goto pc+1"),
    (Insn(0x6D, 1, 2, 7), "(6d) if r1 s> r2 goto pc+7"),
    (Insn(0x45, 1, 0, 1, 8), "(45) if r1 & 0x8 goto pc+1"),
    (Insn(0x85, imm=1), "(85) call bpf_map_lookup_elem#1"),
    (Insn(0x85, src=1, imm=12), "(85) call pc+12"),
    (Insn(0x85, src=2, imm=31), "(85) call kfunc_31#31"),
    (Insn(0x95), "(95) exit"),
    (Insn(0x30, imm=4), "(30) r0 = *(u8 *)skb[4]"),
]


def names(imm, kfunc):
    return f"kfunc_{imm}" if kfunc else helper_name(imm)


@pytest.mark.parametrize(("insn", "text"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_text(insn, text):
    assert insn_text([insn], 0, names) == text


def test_64_bit_immediates_show_the_value_or_what_replaces_it():
    pair = [Insn(b.LD_IMM64, 1, 1, 0, 3), Insn(0, imm=-1)]
    assert insn_text(pair, 0, names) == "(18) r1 = 0xffffffff00000003"
    assert insn_text(pair, 0, names, 0xFFFF888000001000) == "(18) r1 = 0xffff888000001000"


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "bpf_map_lookup_elem"), (12, "bpf_tail_call"), (113, "bpf_probe_read_kernel"), (148, "bpf_copy_from_user"),
     (181, "bpf_loop"), (211, "bpf_cgrp_storage_delete"), (212, "unknown"), (0, "unknown"), (-1, "unknown")],
)  # fmt: skip
def test_helper_names(number, name):
    assert helper_name(number) == name
