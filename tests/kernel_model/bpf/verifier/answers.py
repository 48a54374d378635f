"""What the real verifier answered, as tests/golden/verifier keeps it, and what ours answers."""

import re
from pathlib import Path

from arch.bpf_isa import BPF_CALL, BPF_JMP, BPF_PSEUDO_CALL, Insn
from kernel_model import profiles
from kernel_model.bpf.program import ProgSpec
from kernel_model.bpf.verifier import VerifierRejected, bpf_check
from kernel_model.types import Btf

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests" / "golden" / "verifier"


def answers(name: str) -> dict[str, tuple[int, str]]:
    """(errno or 0, level 2 log) of each program of a file: `=== program errno`, then its log."""
    found = {}
    for part in re.split(r"^=== ", (GOLDEN / name).read_text(), flags=re.M)[1:]:
        head, _, log = part.partition("\n")
        program, errno = head.split()
        found[program] = (int(errno), log)
    return found


def subprogs(insns: list[Insn]) -> list[tuple[str, int]]:
    """(name, first instruction) of the main program and of what it calls by instruction number."""
    calls = {i + x.imm + 1 for i, x in enumerate(insns) if x.code == BPF_JMP | BPF_CALL and x.src == BPF_PSEUDO_CALL}
    return [(f"f{start}", start) for start in sorted({0} | calls)]


def check(spec: ProgSpec, own: Btf | None, kernel: Btf, profile: str = "v6.18", level: int = 2) -> tuple[int, str]:
    """(errno or 0, log) of our verifier, with the program's `own` types and those of the kernel."""
    try:
        return 0, bpf_check(spec, [], own, kernel, profiles.get(profile), level).log
    except VerifierRejected as error:
        assert error.reason in error.log or not level
        return error.errno, error.log
