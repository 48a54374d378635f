"""The rewriting passes: against what Linux 6.18.44 made of the same programs.

tests/golden/xlated/linux-6.18.44.txt: for each program its name, tag and source (hexadecimal), then the lines of
`bpftool prog dump xlated`. Calls of may_goto's check are numbered -2 instead of by the kernel's address, and calls of
subprograms show their offset (which a JITed program's instruction keeps in `off`, with the function's index in `imm`).
"""

import re
from pathlib import Path

import pytest

from arch.bpf_isa import BPF_CMPXCHG, Insn, decode
from kernel_model import profiles
from kernel_model.bpf.disasm import insn_text
from kernel_model.bpf.fixups import Addresses, fix_up, tag
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.bpf.verify import verify
from kernel_model.types import Btf

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "xlated" / "linux-6.18.44.txt"
VMLINUX = Btf((ROOT / "images" / "vmlinux.btf").read_bytes(), "vmlinux.btf")


def no_address(*_):
    raise AssertionError("this program has no map")


ADDRESSES = Addresses(no_address, no_address, no_address, 0, lambda _: None)


def xlated(insns):
    starts = sorted({0} | {i + x.imm + 1 for i, x in enumerate(insns) if x.code == 0x85 and x.src == 1})
    spec = ProgSpec("p", "syscall", ProgType.SYSCALL, [i.copy() for i in insns], sleepable=True, license="GPL",
                    subprogs=[(f"f{s}", s) for s in starts])
    verdict = verify(spec, [], None, VMLINUX, profiles.get("v6.18"), 0, "x86_64")
    return fix_up(spec, verdict.slots, verdict.functions, ADDRESSES, None)


def text(insns):
    return [insn_text(insns, i, lambda imm, kfunc: "helper") for i in range(len(insns))]


def golden():
    for part in re.split(r"^=== ", GOLDEN.read_text(), flags=re.M)[1:]:
        head, *lines = part.splitlines()
        name, digits, source = head.split()
        yield pytest.param(decode(bytes.fromhex(source)), digits, lines, id=name)


@pytest.mark.parametrize(("source", "digits", "lines"), list(golden()))
def test_as_linux(source, digits, lines):
    result = xlated(source)
    assert text(result.insns) == lines
    assert result.tag == tag(source) == digits


def test_functions_begin_where_their_code_went():
    body = [Insn(0xB7, 2, 0, 0, 1), Insn(0x55, 2, 0, 1, 0), Insn(0xB7, 3, 0, 0, 7), Insn(0xB7), Insn(0x95)]
    result = xlated([Insn(0x85, 0, 1, 0, 5), *body, *body])
    assert [(f.start, len(f.insns)) for f in result.funcs] == [(0, 4), (4, 3)]
    assert result.insns[0].imm == 3


def test_may_goto_takes_16_bytes_below_the_functions_stack():
    result = xlated([Insn(0x7A, 10, 0, -8, 1), Insn(0xE5, 0, 0, 1), Insn(0x05, 0, 0, -2), Insn(0xB7), Insn(0x95)])
    assert result.funcs[0].stack_depth == 24
    assert text(result.insns)[:2] == ["(7a) *(u64 *)(r10 -24) = 65535", "(7a) *(u64 *)(r10 -16) = 0"]


def test_only_a_32_bit_cmpxchg_is_zero_extended():
    def program(size):
        return [Insn(0xB7), Insn(0x7B, 10, 0, -8), Insn(size, 10, 0, -8, BPF_CMPXCHG), Insn(0x7B, 1, 0), Insn(0xB7),
                Insn(0x95)]

    assert Insn(0xBC, 0, 0, 0, 1) in xlated(program(0xC3)).insns
    assert Insn(0xBC, 0, 0, 0, 1) not in xlated(program(0xDB)).insns


def test_the_tag_does_not_know_which_map_is_meant():
    def program(index, src):
        return [Insn(0x18, 1, src, 0, index), Insn(0, 0, 0, 0, 8 * index), Insn(0xB7), Insn(0x95)]

    assert tag(program(3, 1)) == tag(program(5, 1))
    assert tag(program(3, 2)) == tag(program(5, 2))
    assert tag(program(3, 0)) != tag(program(5, 0))
