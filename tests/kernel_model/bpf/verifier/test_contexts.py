"""Sleepable contexts, kernel pointers and iterators against the real verifier: verdicts, errors and level 2 logs.

tests/golden/verifier/contexts-6.18.44.txt is what Linux 6.18.44 (x86-64) answered to bpf(BPF_PROG_LOAD) for the
programs of context_programs.py, with BTF ids and field offsets masked: those of the image differ. Where this machine
runs a 6.18 kernel and lets us ask, all programs are compared on its own types, with nothing masked.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from arch.bpf_isa import Insn, encode
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.types import Btf
from tests.kernel_model.bpf.verifier import context_programs as programs
from tests.kernel_model.bpf.verifier import random_contexts
from tests.kernel_model.bpf.verifier.answers import ROOT, answers, check, subprogs
from tests.oracle import bpf_syscall as oracle

LIVE_TYPES = Path("/sys/kernel/btf/vmlinux")


PROGRAMS = {name: programs.Traced(steps, ProgType.SYSCALL, True, 0) for name, steps in programs.PROGRAMS.items()}
PROGRAMS |= programs.TRACED
IMAGE = Btf((ROOT / "images" / "vmlinux.btf").read_bytes(), "vmlinux.btf")
REASON = oracle.unavailable() or (None if LIVE_TYPES.exists() else f"there is no {LIVE_TYPES}")
# the image has no such fields, or not at that place; such functions
ONLY_LIVE = {"vma_file", "vma_at_an_odd_place", "fentry_scalar", "fentry_sleeps_nowhere", "fentry_task_plain",
             "task_printed"}


def ours(program: object, insns: list[Insn], btf: Btf) -> tuple[int, str]:
    """(errno or 0, log) of our verifier at level 2."""
    spec = ProgSpec("p", "", program.type, [i.copy() for i in insns], program.attach_type,
                    sleepable=program.sleepable, license="GPL", subprogs=subprogs(insns),
                    attach_btf_id=program.attach_btf_id(btf))
    return check(spec, None, btf)


def mask(log: str) -> str:
    """Without what differs between two kernels' types: ids, offsets of fields and what is loaded from them."""
    log = re.sub(r"(call bpf_(?:iter|rcu|preempt|local|copy_from_user_(?:task_)?str|task)\w*#)\d+", r"\1ID", log)
    log = re.sub(r"\b(m?off) \d+", r"\1 OFF", log)
    log = re.sub(r"(?<=btf_id )\d+", "ID", log)
    log = re.sub(r"\((r[0-9]) \+\d+\)", r"(\1 +OFF)", log)
    # where a comment or a changed register begins depends on the instruction's length
    return re.sub(r"[ \t]+;", " ;", log)


ANSWERS = answers("contexts-6.18.44.txt")


def test_every_program_that_could_be_asked_has_an_answer() -> None:
    fentry = {name for name in PROGRAMS if name.startswith("fentry")}  # the kernel asked allows no such program
    assert set(ANSWERS) == set(PROGRAMS) - ONLY_LIVE - fentry
    assert len({errno for errno, _ in ANSWERS.values()}) >= 3


@pytest.mark.parametrize("name", ANSWERS)
def test_verdict_and_log_are_the_kernels(name: str) -> None:
    program = PROGRAMS[name]
    errno, log = ours(program, programs.build(program.steps, IMAGE), IMAGE)
    assert (errno, mask(log)) == ANSWERS[name]


@pytest.fixture(scope="module")
def live() -> Callable[[str | programs.Traced], tuple[tuple[int, str], tuple[int, str]]]:
    """(the kernel's answer, ours) for a program, on the machine's types."""
    btf = Btf(LIVE_TYPES.read_bytes(), str(LIVE_TYPES))

    def ask(program: str | programs.Traced) -> tuple[tuple[int, str], tuple[int, str]]:
        program = PROGRAMS[program] if isinstance(program, str) else program
        insns = programs.build(program.steps, btf)
        kind = oracle.Kind(int(program.type), program.sleepable, program.attach_type, program.attach_btf_id(btf))
        return oracle.verdict(encode(insns), 2, kind), ours(program, insns, btf)

    return ask


@pytest.mark.skipif(REASON is not None, reason=f"the real verifier cannot be asked: {REASON}")
@pytest.mark.parametrize("name", [name for name in PROGRAMS if not name.startswith("fentry")])
def test_this_machines_kernel_says_the_same(name: str, live: Callable[[str], tuple[object, object]]) -> None:
    want, got = live(name)
    assert got == want


@pytest.mark.skipif(REASON is not None, reason=f"the real verifier cannot be asked: {REASON}")
def test_random_programs_get_the_kernels_verdict_and_log(live: Callable[[object], tuple[object, object]]) -> None:
    answers = [live(random_contexts.program(seed)) for seed in range(500)]
    assert all(got == want for want, got in answers)
    errors = [errno for (errno, _), _ in answers]
    assert errors.count(0) > 25 and len(set(errors)) >= 4, "programs of which none passes compare nothing"
