"""Every arm64 fault text of the golden folder: its numbers are read back and must print as the same lines."""

import re
from pathlib import Path

import pytest

from arch.arm64 import oops
from arch.interface import Prot, Walk

GOLDEN = Path(__file__).parents[2] / "golden" / "kernel-texts"
FILES = sorted(p for p in GOLDEN.glob("arm64-6.18.35-*.txt") if "\npstate: " in p.read_text())
FAULTS = [p for p in FILES if "Mem abort info:" in p.read_text()]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem[14:])
def test_register_blocks(path: Path) -> None:
    blocks = re.findall(r"^pstate: .*\npc : .*\nlr : .*\nsp : .*\n(?:x\d.*\n){10}", path.read_text(), re.M)
    assert blocks
    for block in blocks:
        lines = block.splitlines()
        names = {1: lines[1][5:], 2: lines[2][5:]}
        regs = oops.Regs(sp=int(lines[3][5:], 16), pc=1, pstate=int(lines[0].split()[1], 16))
        for number, value in re.findall(r"x(\d+) *: ([0-9a-f]{16})", block):
            regs.x[int(number)] = int(value, 16)
        regs.x[30] = 2
        assert oops.show_regs(regs, lambda a, n=names: n[a]) == lines


@pytest.mark.parametrize("path", FAULTS, ids=lambda p: p.stem[14:])
def test_fault_header(path: Path) -> None:
    # one console log has a line twice: printk was interrupted while it wrote it and said so
    text = re.sub(r".*\n\*\* replaying previous printk message \*\*\n", "", path.read_text())
    found = re.search(r"Unable to handle kernel (.*) at virtual address ([0-9a-f]+)\n(?s:.*?)(?=Internal error)", text)
    esr = re.search(r"ESR = 0x([0-9a-f]+)", text)
    assert found and esr
    table = re.search(r"^(swapper|user) pgtable: .*pgdp=([0-9a-f]+)\n\[[0-9a-f]+\] (.*)$", text, re.M)
    address = int(found[2], 16)
    walk, pgdp, kernel = None, 0, address >> 48 == 0xFFFF
    if table:
        pairs = [p.split("=") for p in table[3].split(", ")]
        levels = tuple((n, int(v, 16), 0) for n, v in pairs if n != "p4d")
        walk, pgdp = Walk(levels, None, Prot(0)), int(table[2], 16)
        assert kernel == (table[1] == "swapper")
    lines = oops.fault_header(found[1], address, int(esr[1], 16), walk, pgdp, kernel)
    assert "\n".join(lines) + "\n" == found[0]


@pytest.mark.parametrize("path", [p for p in FILES if "\nCode: " in p.read_text()], ids=lambda p: p.stem[14:])
def test_code_line(path: Path) -> None:
    line = next(x for x in path.read_text().splitlines() if x.startswith("Code: "))
    words = re.findall(r"[0-9a-f]{8}|\?{8}", line)
    memory = {16 + 4 * (i - len(words) + 1): int(w, 16) for i, w in enumerate(words) if "?" not in w}
    assert oops.dump_kernel_instr(16, memory.get) == line


@pytest.mark.parametrize(
    ("case", "text", "esr"),
    [("vmalloc_read", "Oops", 0x96000007), ("bug", "Oops - BUG", 0xF2000800), ("brk", "Oops - BRK", 0xF2000123),
     ("udf", "Oops - Undefined instruction", 0x02000000)],
)
def test_die_header(case: str, text: str, esr: int) -> None:
    assert oops.die_header(text, esr, 1) in (GOLDEN / f"arm64-6.18.35-{case}.txt").read_text().splitlines()
