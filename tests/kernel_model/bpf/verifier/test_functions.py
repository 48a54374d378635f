"""Functions with BTF against the real verifier: verdicts, errors and level 2 logs.

tests/golden/verifier/functions-6.18.44.txt is what Linux 6.18.44 (x86-64) answered to bpf(BPF_PROG_LOAD) for the
programs of function_programs.py. Where this machine runs a 6.18 kernel and lets us ask, it is asked again.
"""


import pytest

from arch.bpf_isa import encode
from kernel_model.bpf.program import FuncInfo, ProgSpec, ProgType
from kernel_model.types import Btf
from tests.kernel_model.bpf.verifier import function_programs as programs
from tests.kernel_model.bpf.verifier import random_callbacks
from tests.kernel_model.bpf.verifier.answers import ROOT, answers, check
from tests.oracle import bpf_syscall as oracle

IMAGE = Btf((ROOT / "images" / "vmlinux.btf").read_bytes(), "vmlinux.btf")
REASON = oracle.unavailable()
RCU = programs.Insn(0x85, 0, 2, 0, IMAGE.find("bpf_rcu_read_lock").id)
UNRCU = programs.Insn(0x85, 0, 2, 0, IMAGE.find("bpf_rcu_read_unlock").id)


def ours(functions: list[object], profile: str = "v6.18", level: int = 2, kind: ProgType = ProgType.SYSCALL,
         ) -> tuple[int, str]:  # fmt: skip
    """(errno or 0, log) of our verifier."""
    data, ids = programs.types(functions)
    insns, starts = programs.link(functions)
    spec = ProgSpec("p", "syscall", kind, insns, sleepable=kind is ProgType.SYSCALL, license="GPL",
                    subprogs=[(f"f{i}", s) for i, s in enumerate(starts)],
                    func_info=[FuncInfo(s, i) for s, i in zip(starts, ids, strict=True)])
    return check(spec, Btf(data, "p"), IMAGE, profile, level)


def theirs(functions: list[object]) -> tuple[int, str]:
    data, ids = programs.types(functions)
    insns, starts = programs.link(functions)
    return oracle.verdict(encode(insns), 2, None, oracle.Functions(data, tuple(zip(starts, ids, strict=True))))


ANSWERS = answers("functions-6.18.44.txt")


def test_every_program_has_an_answer() -> None:
    assert set(ANSWERS) == set(programs.PROGRAMS) and len({errno for errno, _ in ANSWERS.values()}) >= 3


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_verdict_and_log_are_the_kernels(name: str) -> None:
    assert ours(programs.PROGRAMS[name]) == ANSWERS[name]


@pytest.mark.skipif(REASON is not None, reason=f"the real verifier cannot be asked: {REASON}")
@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_this_machines_kernel_says_the_same(name: str) -> None:
    assert ours(programs.PROGRAMS[name]) == theirs(programs.PROGRAMS[name])


@pytest.mark.skipif(REASON is not None, reason=f"the real verifier cannot be asked: {REASON}")
def test_random_callbacks_get_the_kernels_verdict_and_log() -> None:
    same = accepted = 0
    for seed in range(400):
        functions = random_callbacks.program(seed)
        want, got = theirs(functions), ours(functions)
        assert got[0] == want[0], f"seed {seed}: errno {got[0]}, the kernel says {want[0]}\n{want[1]}\n{got[1]}"
        same += got == want
        accepted += not want[0]
    assert accepted > 200 and same >= 399, f"level 2 logs are equal for {same} of 400"


# -- what no kernel at hand can be asked -----------------------------------------------------------------------------


def sleeping(before: list[object], after: list[object]) -> list[object]:
    main = programs.main(*before, programs.Call(1), *after, args=("int",))
    return [main, programs.Function(programs.SLEEP, ())]


def test_a_global_function_that_sleeps_in_a_region() -> None:
    functions = sleeping([RCU], [UNRCU])
    old = ("global functions that may sleep are not allowed in non-sleepable context,\n"
           "i.e., in a RCU/IRQ/preempt-disabled section, or in\na non-sleepable BPF program context\n")
    errno, log = ours(functions, "v6.18")
    assert errno == 22 and old in log
    errno, log = ours(functions, "v7.1")
    assert errno == 22 and "sleepable global function f1() called in rcu_read_lock region\n" in log
    assert ours(sleeping([RCU, UNRCU], []), "v7.1")[0] == 0


def test_a_global_function_that_sleeps_in_a_program_that_may_not() -> None:
    errno, log = ours(sleeping([], []), "v7.1", kind=ProgType.RAW_TRACEPOINT)
    assert errno == 22 and "sleepable global function f1() called in non-sleepable prog\n" in log
    assert "global functions that may sleep are not allowed" in ours(
        sleeping([], []), "v6.18", kind=ProgType.RAW_TRACEPOINT)[1]


def test_messages_name_arguments_by_register_since_they_may_lie_on_the_stack() -> None:
    names = {"v6.18": "arg#0", "v7.1": "arg#0", "v7.2": "R1"}
    assert all(f"{name} expects pointer to ctx\n" in ours(programs.PROGRAMS["context_of_a_number"], profile)[1]
               for profile, name in names.items())
    # what a prototype itself is reproached with keeps its argument's number
    assert "arg#0 has unsupported set of tags\n" in ours(programs.PROGRAMS["unknown_tag"], "v7.2")[1]


def test_only_the_last_line_is_left_of_a_program_that_is_accepted() -> None:
    """At level 1 each function's own paths are cut off; what is said of the function stays."""
    log = ours(programs.PROGRAMS["global"], level=1)[1]
    assert log.startswith("Func#1 ('f1') is safe for any args that match its prototype\nprocessed ")
