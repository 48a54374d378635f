"""The verifier against the real one: verdicts, errors and level 2 logs.

tests/golden/verifier/linux-6.18.44.txt is what Linux 6.18.44 (x86-64) answered to bpf(BPF_PROG_LOAD) for the programs
of programs.py. Where this machine runs a 6.18 kernel and lets us ask, random programs are compared live.
"""


import pytest

from arch.bpf_isa import Insn, encode
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.types import Btf
from tests.kernel_model.bpf.verifier import programs
from tests.kernel_model.bpf.verifier.answers import ROOT, answers, check, subprogs
from tests.oracle import bpf_syscall as oracle

VMLINUX = Btf((ROOT / "images" / "vmlinux.btf").read_bytes(), "vmlinux.btf")
REASON = oracle.unavailable()


def ours(insns: list[Insn]) -> tuple[int, str]:
    """(errno or 0, log) of our verifier at level 2."""
    spec = ProgSpec("p", "syscall", ProgType.SYSCALL, [i.copy() for i in insns], sleepable=True, license="GPL",
                    subprogs=subprogs(insns))
    return check(spec, None, VMLINUX)


ANSWERS = answers("linux-6.18.44.txt")


def test_every_program_has_an_answer() -> None:
    assert set(ANSWERS) == set(programs.PROGRAMS) and len({errno for errno, _ in ANSWERS.values()}) >= 3


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_verdict_and_log_are_the_kernels(name: str) -> None:
    assert ours(programs.PROGRAMS[name]) == ANSWERS[name]


@pytest.mark.skipif(REASON is not None, reason=f"the real verifier cannot be asked: {REASON}")
def test_random_programs_get_the_kernels_verdict() -> None:
    same = accepted = 0
    for seed in range(400):
        insns = programs.random_program(seed)
        want, got = oracle.verdict(encode(insns)), ours(insns)
        assert got[0] == want[0], f"seed {seed}: errno {got[0]}, the kernel says {want[0]}\n{want[1]}\n{got[1]}"
        same += got == want
        accepted += not want[0]
    assert accepted > 40, "programs of which none passes compare nothing"
    assert same >= 398, f"level 2 logs are equal for {same} of 400"


@pytest.mark.skipif(REASON is not None, reason=f"the real verifier cannot be asked: {REASON}")
def test_what_is_known_of_random_numbers_is_what_the_kernel_knows() -> None:
    for seed in range(300):
        insns = programs.random_scalars(seed)
        want, got = oracle.verdict(encode(insns)), ours(insns)
        assert got == want, f"seed {seed}\n{want[1]}\n{got[1]}"
