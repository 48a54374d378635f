"""Every x86-64 fault text of the golden folder: its numbers are read back and must print as the same lines."""

import re
from pathlib import Path

import pytest

from arch.interface import Prot, Walk
from arch.x86_64 import oops

GOLDEN = Path(__file__).parents[2] / "golden" / "kernel-texts"
FILES = sorted(p for p in GOLDEN.glob("x86_64-6.18.35-*.txt") if "\nRIP: 00" in p.read_text())
PAGE_FAULTS = [p for p in FILES if re.search(r"^#PF: error_code", p.read_text(), re.M) and "la57" not in p.name]


def _registers(block: str) -> oops.Regs:
    def num(name: str) -> int:
        found = re.search(rf"\b{name}: *([0-9a-f]+)", block)
        assert found, name
        return int(found[1], 16)

    regs = oops.Regs()
    for field, name in (("ax", "RAX"), ("bx", "RBX"), ("cx", "RCX"), ("dx", "RDX"), ("si", "RSI"), ("di", "RDI"),
                        ("bp", "RBP"), ("r8", "R08"), ("r9", "R09"), ("r10", "R10"), ("r11", "R11"),
                        ("r12", "R12"), ("r13", "R13"), ("r14", "R14"), ("r15", "R15"), ("flags", "EFLAGS")):
        setattr(regs, field, num(name))
    stack = re.search(r"RSP: ([0-9a-f]+):([0-9a-f]+)", block)
    code = re.search(r"RIP: ([0-9a-f]+):", block)
    assert stack and code
    regs.ss, regs.sp, regs.cs = int(stack[1], 16), int(stack[2], 16), int(code[1], 16)
    orig = re.search(r"ORIG_RAX: ([0-9a-f]+)", block)
    if orig:
        regs.orig_ax = int(orig[1], 16)
    return regs


def _system(text: str) -> oops.SystemRegs:
    def num(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(found[1], 16) if found else 0

    return oops.SystemRegs(
        cr0=num(r"CR0: ([0-9a-f]+)"), cr2=num(r"CR2: ([0-9a-f]+) CR3"), cr3=num(r"CR3: ([0-9a-f]+)"),
        cr4=num(r"CR4: ([0-9a-f]+)"), fs_base=num(r"FS:  ([0-9a-f]+)"), gs_base=num(r"GS:([0-9a-f]+)"),
        kernel_gs_base=num(r"knlGS:([0-9a-f]+)"), pkru=num(r"PKRU: ([0-9a-f]+)"),
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem[15:])
def test_register_blocks(path: Path) -> None:
    text = path.read_text()
    control = r"(?:FS:.*\nCS:.*\nCR2:.*\n(?:PKRU.*\n)?)?"
    blocks = re.findall(r"^RIP: .*\nCode: .*\nRSP: .*\n(?:R.*\n){5}" + control, text, re.M)
    assert blocks
    for block in blocks:
        regs = _registers(block)
        lines = block.splitlines()
        symbol = lines[0].split(":", 2)[2].strip()
        if lines[1].startswith("Code: Unable"):
            regs.ip = int(lines[1].split()[-1].rstrip("."), 16) + 42
            data = None
        else:
            regs.ip = int(symbol, 16) if symbol.startswith("0x") else 0xFFFFFFFFC0201000
            data = bytes(int(b.strip("<>"), 16) for b in lines[1].split()[1:])
        if regs.user_mode:
            symbol = "never used for user addresses"
        args = (lambda ip, s=symbol: s, lambda at, n, d=data: d)
        if "CR2:" in block:
            assert oops.all_regs(regs, _system(block), *args) == lines
        else:
            assert oops.short_regs(regs, *args) == lines


@pytest.mark.parametrize("path", PAGE_FAULTS, ids=lambda p: p.stem[15:])
def test_page_fault_header(path: Path) -> None:
    text = path.read_text()
    header = re.search(
        r"((?:.*\(uid: 0\)\n)?BUG: .*address: ([0-9a-f]+)\n#PF:.*\n#PF: error_code\(0x([0-9a-f]+)\).*\n(PGD.*)\n)", text
    )
    assert header
    names = [n for n in header[4].split()[::2] if n != "P4D"]
    entries = [int(v, 16) for n, v in zip(header[4].split()[::2], header[4].split()[1::2], strict=True) if n != "P4D"]
    levels = tuple((n.lower(), e, 0) for n, e in zip(names, entries, strict=True))
    walk = Walk(levels, 0 if entries[-1] & 1 else None, Prot(0))
    lines = oops.page_fault_header(int(header[2], 16), int(header[3], 16), oops.Regs(), walk, 0)
    assert "\n".join(lines) + "\n" == header[1]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("vmalloc_read", oops.die_header("Oops", 0, 1)),
        ("vmalloc_read_null_read", oops.die_header("Oops", 0, 2)),
        ("divide", oops.die_header("divide error", 0, 1)),
        ("noncanonical_read", oops.die_header(oops.non_canonical_text(0xDEAD000000000100), 0, 1)),
        ("noncanonical_exec", oops.die_header(oops.non_canonical_text(None), 0, 1)),
    ],
)
def test_die_header(file: str, line: str) -> None:
    assert line in (GOLDEN / f"x86_64-6.18.35-{file}.txt").read_text().splitlines()
