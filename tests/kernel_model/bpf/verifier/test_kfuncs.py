"""kfunc calls, references and iterators: what is refused, in the kernel's words (6.18)."""

from types import SimpleNamespace

import pytest

from arch import bpf_isa as b
from arch.bpf_isa import Insn
from kernel_model import profiles
from kernel_model.bpf.program import MapType, ProgSpec, ProgType
from kernel_model.bpf.verifier import bpf_check
from kernel_model.bpf.verifier.errors import VerifierRejected
from kernel_model.types import Btf, Kind

EXIT = Insn(b.BPF_JMP | b.BPF_EXIT)


@pytest.fixture(scope="module")
def vmlinux(request):
    return Btf((request.config.rootpath / "images/vmlinux.btf").read_bytes(), "vmlinux")


ARENA = SimpleNamespace(
    name="arena", type=MapType.ARENA, key_size=0, value_size=0, max_entries=10, map_flags=1 << 10, id=1,
    user_vm_start=1 << 44, frozen=False,
)  # fmt: skip
ARRAY = SimpleNamespace(
    name="array", type=MapType.ARRAY, key_size=4, value_size=16, max_entries=1, map_flags=0, id=2,
    user_vm_start=0, frozen=False,
)  # fmt: skip


@pytest.fixture
def check(vmlinux):
    """Verify instructions; kfunc(name) makes a call."""

    def run(insns, profile="v7.2", sleepable=True, level=1):
        spec = ProgSpec(
            name="test", section="syscall" if sleepable else "raw_tp",
            type=ProgType.SYSCALL if sleepable else ProgType.RAW_TRACEPOINT, insns=[*insns], sleepable=sleepable,
            subprogs=[("test", 0)], license="GPL",
        )  # fmt: skip
        return bpf_check(spec, [ARENA, ARRAY], None, vmlinux, profiles.get(profile), level, arch_name="x86_64")

    run.kfunc = lambda name: Insn(
        b.BPF_JMP | b.BPF_CALL, 0, b.BPF_PSEUDO_KFUNC_CALL, 0, vmlinux.find(name, Kind.FUNC).id
    )
    return run


def mov(dst, imm):
    return Insn(b.BPF_ALU64 | b.BPF_MOV, dst, 0, 0, imm)


def copy(dst, src):
    return Insn(b.BPF_ALU64 | b.BPF_MOV | b.BPF_X, dst, src)


def load_map(dst, index):
    return [Insn(b.LD_IMM64, dst, b.BPF_PSEUDO_MAP_FD, 0, index), Insn(0)]


def stack(dst, off):
    return [copy(dst, 10), Insn(b.BPF_ALU64 | b.BPF_ADD, dst, 0, 0, off)]


NAMES_OF_THE_FIRST = {"v6.18": "arg#0", "v7.0": "arg#0", "v7.1": "arg#0", "v7.2": "R1"}
DONE = [mov(0, 0), EXIT]


def refused(check, insns, reason, **kwargs):
    with pytest.raises(VerifierRejected) as caught:
        check(insns, **kwargs)
    assert caught.value.reason == reason
    assert reason in caught.value.log


def alloc(check, **first):
    return [*load_map(1, 0), mov(2, 0), mov(3, 1), mov(4, -1), mov(5, 0), check.kfunc("bpf_arena_alloc_pages"), *DONE]


def test_arena_allocation_finds_the_arena_and_records_the_call(check, vmlinux):
    done = check(alloc(check))
    assert done.arena_map == 0
    call = done.insn_aux[6].kfunc
    assert (call.name, call.arena) == ("bpf_arena_alloc_pages", True)


@pytest.mark.parametrize(("profile", "fine"), [("v7.2", True), ("v6.18", False)])
def test_arena_kfuncs_sleep_until_the_spinlock_came(check, profile, fine):
    if fine:
        check(alloc(check), profile=profile, sleepable=False)
        return
    reason = "program must be sleepable to call sleepable kfunc bpf_arena_alloc_pages"
    refused(check, alloc(check), reason, profile=profile, sleepable=False)


@pytest.mark.parametrize(
    ("region", "name"), [("bpf_rcu_read_lock", "rcu_read_lock"), ("bpf_preempt_disable", "non-preemptible")]
)
def test_sleepable_kfuncs_stay_out_of_regions(check, region, name):
    reason = f"kernel func bpf_arena_alloc_pages is sleepable within {name} region"
    refused(check, [check.kfunc(region), *alloc(check)], reason, profile="v6.18")


def test_a_map_argument_must_be_a_map(check):
    call = check.kfunc("bpf_kfunc_arena_kern_vm_start")
    refused(check, [*stack(1, -8), call, *DONE], "pointer in R1 isn't map pointer")
    check([*load_map(1, 0), call, *DONE])


def test_scalars_ignored_arguments_and_unset_registers(check):
    write = check.kfunc("bpf_kfunc_arena_write")
    start = [*load_map(1, 0), copy(2, 10)]
    check([*start, mov(3, 7), write, *DONE])  # addr__ign takes anything
    refused(check, [*start, copy(3, 10), write, *DONE], "R3 is not a scalar")
    refused(check, [*start, write, *DONE], "R3 !read_ok")


def test_other_kernel_functions_are_refused_by_name(check):
    refused(check, [check.kfunc("do_group_exit"), *DONE], "calling kernel function do_group_exit is not allowed")


def test_results_and_clobbered_registers(check):
    read = [mov(1, 4096), check.kfunc("bpf_kfunc_read_kern")]
    check([*read, EXIT])
    refused(check, [*read, copy(0, 1), EXIT], "R1 !read_ok")
    refused(check, [mov(1, 1), mov(2, 1), check.kfunc("bpf_kfunc_write_kern"), EXIT], "R0 !read_ok")


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        (["bpf_rcu_read_unlock"], "unmatched rcu read unlock (kernel function bpf_rcu_read_unlock)"),
        (["bpf_rcu_read_lock"] * 2, "nested rcu read lock (kernel function bpf_rcu_read_lock)"),
        (["bpf_preempt_enable"], "unmatched attempt to enable preemption (kernel function bpf_preempt_enable)"),
        (["bpf_rcu_read_lock"], "BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region"),
        (
            ["bpf_preempt_disable"] * 2 + ["bpf_preempt_enable"],
            "BPF_EXIT instruction in main prog cannot be used inside bpf_preempt_disable-ed region",
        ),
    ],
)
def test_regions_are_opened_and_closed_in_pairs(check, calls, reason):
    refused(check, [*map(check.kfunc, calls), *DONE], reason, profile="v6.18")


def test_balanced_regions_are_fine(check):
    names = ["bpf_rcu_read_lock", "bpf_preempt_disable", "bpf_preempt_disable", "bpf_preempt_enable",
             "bpf_preempt_enable", "bpf_rcu_read_unlock"]  # fmt: skip
    check([*map(check.kfunc, names), *DONE])


def new(check, off=-8):
    return [*stack(1, off), mov(2, 0), mov(3, 10), check.kfunc("bpf_iter_num_new")]


def on_iter(check, name, off=-8):
    return [*stack(1, off), check.kfunc(f"bpf_iter_num_{name}")]


def loop(check):
    """for (;;) { p = next(); if (!p) break; r6 += *p; } destroy()"""
    body = [*on_iter(check, "next"), Insn(b.BPF_JMP | b.BPF_JEQ, 0, 0, 3, 0),
            Insn(b.BPF_LDX | b.BPF_MEM | b.BPF_W, 1, 0, 0), Insn(b.BPF_ALU64 | b.BPF_ADD | b.BPF_X, 6, 1),
            Insn(b.BPF_JMP | b.BPF_JA, 0, 0, -7)]  # fmt: skip
    return [mov(6, 0), *new(check), *body, *on_iter(check, "destroy"), *DONE]


def test_an_iterator_loop_converges(check):
    done = check(loop(check), level=2)
    assert "state=active,depth=1" in done.log and "state=drained" in done.log
    assert done.stats.processed < 200


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["next"], "expected an initialized iter_num as {}"),
        (["destroy"], "expected an initialized iter_num as {}"),
        (["new", "new"], "expected uninitialized iter_num as {}"),
        (["new", "destroy", "destroy"], "expected an initialized iter_num as {}"),
        (["new"], "BPF_EXIT instruction in main prog would lead to reference leak"),
    ],
)
def test_the_life_of_an_iterator(check, steps, reason):
    insns = [insn for step in steps for insn in (new(check) if step == "new" else on_iter(check, step))]
    for profile, name in NAMES_OF_THE_FIRST.items():
        refused(check, [*insns, *DONE], reason.format(name.replace("arg#", "arg #")), profile=profile)


def test_a_leak_names_its_reference(check):
    with pytest.raises(VerifierRejected) as caught:
        check([*new(check), *DONE])
    assert "Unreleased reference id=1 alloc_insn=4\n" in caught.value.log


def test_iterators_live_on_the_stack_at_a_known_slot(check):
    call = check.kfunc("bpf_iter_num_new")
    bounds = [mov(2, 0), mov(3, 1)]
    for profile, name in NAMES_OF_THE_FIRST.items():
        refused(check, [*load_map(1, 1), *bounds, call, *DONE], f"{name} expected pointer to an iterator on stack",
                profile=profile)
        refused(check, [*stack(1, -12), *bounds, call, *DONE], "cannot pass in iter at an offset=-12\n"
                f"expected uninitialized iter_num as {name.replace('arg#', 'arg #')}", profile=profile)


@pytest.mark.parametrize(("profile", "name"), NAMES_OF_THE_FIRST.items())
def test_what_messages_call_the_first_argument(check, profile, name):
    read = lambda kfunc, *insns: (check, [*insns, check.kfunc(kfunc), *DONE])  # noqa: E731
    refused(*read("bpf_local_irq_save", *load_map(1, 1)), f"{name} doesn't point to an irq flag on stack",
            profile=profile)
    refused(*read("bpf_local_irq_restore", *stack(1, -8)), f"expected an initialized irq flag as {name}",
            profile=profile)
    sized = [*stack(1, -8), mov(2, 16), mov(3, 0), mov(4, 0)]
    with pytest.raises(VerifierRejected) as caught:
        check([*sized, check.kfunc("bpf_copy_from_user_str"), *DONE], profile=profile)
    pair = "R1 and R2" if name == "R1" else "arg#0 arg#1"
    assert caught.value.log.splitlines()[-2].endswith(f"{pair} memory, len pair leads to invalid memory access")


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ("v6.18", "arg#0 expected pointer to an iterator on stack"),
        ("v7.0", "Possibly NULL pointer passed to trusted arg0"),
        ("v7.1", "Possibly NULL pointer passed to trusted arg0"),
        ("v7.2", "Possibly NULL pointer passed to trusted R1"),
    ],
)
def test_null_is_refused_at_once_since_every_argument_must_be_trusted(check, profile, reason):
    call = check.kfunc("bpf_iter_num_next")
    with pytest.raises(VerifierRejected) as caught:
        check([mov(1, 0), call, *DONE], profile=profile)
    assert caught.value.reason == reason


def test_the_end_of_the_iteration_is_walked_too(check):
    """The path on which there is no element comes first: R0 is 0 there."""
    insns = [*new(check), *on_iter(check, "next"), Insn(b.BPF_LDX | b.BPF_MEM | b.BPF_W, 1, 0, 0), *DONE]
    refused(check, insns, "R0 invalid mem access 'scalar'")
