"""Sleeping where it is not allowed: the texts before and after they were consolidated, in their order."""

import pytest

from kernel_model.bpf.verifier import regions
from kernel_model.bpf.verifier.env import Env

OLD, NEW, SERIES = "v6.18", "v7.2", "series:kf-forbid-fault-v5"
HELPER = "sleepable helper bpf_copy_from_user#148 in"
KFUNC = "kernel func bpf_copy_from_user_str is sleepable within"
REGIONS = {"rcu": "rcu_read_lock region", "preempt": "non-preemptible region", "irq": "IRQ-disabled region"}


def enter(cp, *names):
    return [{"rcu": cp.RCU, "preempt": cp.NOPREEMPT, "irq": cp.irq_save()}[name] for name in names]


@pytest.mark.parametrize("profile", [OLD, "v7.0", NEW, SERIES])
@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_named(cp, outcome, region, profile):
    assert outcome([enter(cp, region), cp.COPY, cp.DONE], profile) == (22, f"{HELPER} {REGIONS[region]}")
    assert outcome([enter(cp, region), cp.COPY_STR, cp.DONE], profile) == (13, f"{KFUNC} {REGIONS[region]}")


@pytest.mark.parametrize("profile", [OLD, NEW])
def test_of_several_regions_the_first_of_the_kernels_order_is_named(cp, outcome, profile):
    for names in (("irq", "preempt", "rcu"), ("rcu", "irq"), ("irq", "rcu")):
        assert outcome([enter(cp, *names), cp.COPY, cp.DONE], profile) == (22, f"{HELPER} rcu_read_lock region")
    assert outcome([enter(cp, "irq", "preempt"), cp.COPY, cp.DONE], profile)[1] == f"{HELPER} non-preemptible region"
    assert outcome([enter(cp, "irq", "preempt"), cp.COPY_STR, cp.DONE], profile)[1] == f"{KFUNC} non-preemptible region"


def test_a_program_that_may_not_sleep(cp, outcome):
    """Before, the program was tested first; since then the regions come first. kfuncs test the program first always."""
    helper, kfunc = cp.raw_tp(cp.COPY, cp.DONE), cp.raw_tp(cp.COPY_STR, cp.DONE)
    assert outcome(helper, OLD) == (22, "helper call might sleep in a non-sleepable prog")
    assert outcome(helper, NEW) == (22, f"{HELPER} non-sleepable prog")
    in_rcu = cp.raw_tp(cp.RCU, cp.COPY, cp.DONE)
    assert outcome(in_rcu, OLD) == (22, "helper call might sleep in a non-sleepable prog")
    assert outcome(in_rcu, NEW) == (22, f"{HELPER} rcu_read_lock region")
    program = "program must be sleepable to call sleepable kfunc bpf_copy_from_user_str"
    assert outcome(kfunc, OLD) == outcome(kfunc, NEW) == (13, program)


def test_regions_come_before_nofault(cp, outcome):
    inside = cp.over_vmas(cp.COPY)
    assert outcome([inside, cp.DONE], SERIES) == (22, f"{HELPER} nofault region")
    assert outcome([cp.over_vmas(cp.COPY_STR), cp.DONE], SERIES) == (13, f"{KFUNC} nofault region")
    rcu = cp.over_vmas(cp.RCU, cp.COPY, cp.UNRCU)
    assert outcome([rcu, cp.DONE], SERIES) == (22, f"{HELPER} rcu_read_lock region")


def test_after_the_iteration_sleeping_is_fine_again(cp, outcome):
    assert outcome([cp.over_vmas(), cp.COPY, cp.DONE], SERIES) is None
    # before the first _next() nothing is held
    assert outcome([cp.TASK, cp.vma_new(), cp.COPY, cp.vma("destroy"), cp.DONE], SERIES) is None


def test_nesting_of_rcu_sections(cp, outcome):
    nested = [cp.RCU, cp.RCU, cp.UNRCU, cp.UNRCU, cp.COPY, cp.DONE]
    assert outcome(nested, OLD) == (22, "nested rcu read lock (kernel function bpf_rcu_read_lock)")
    assert outcome(nested, "v7.0") is None
    half = [cp.RCU, cp.RCU, cp.UNRCU, cp.COPY, cp.UNRCU, cp.DONE]
    assert outcome(half, "v7.0") == (22, f"{HELPER} rcu_read_lock region")


def test_a_pointer_that_rcu_protects_outlives_only_the_outermost_section(cp, outcome):
    leader = cp.field(7, 6, "task_struct", "group_leader")
    iterate = [cp.vma_new(-8, 7), cp.vma("destroy")]
    inner = [cp.TASK, cp.RCU, cp.RCU, leader, cp.UNRCU, iterate, cp.UNRCU, cp.DONE]
    assert outcome(inner, NEW) is None
    outer = [cp.TASK, cp.RCU, cp.RCU, leader, cp.UNRCU, cp.UNRCU, iterate, cp.DONE]
    assert outcome(outer, NEW) == (22, "R2 must be a rcu pointer")


@pytest.mark.parametrize(
    ("profile", "flags"), [("v6.18", "untrusted_ptr_mm_struct"), ("v7.0", "untrusted_ptr_mm_struct"),
                           ("v7.1", "trusted_ptr_or_null_mm_struct"), ("v7.2", "trusted_ptr_or_null_mm_struct")]
)
def test_how_far_fields_of_a_vma_are_trusted(cp, outcome, profile, flags):
    """Linux kernel commit 4cbee026db54: vm_mm and vm_file of the snapshot are references."""
    log = outcome([cp.over_vmas(cp.field(1, 0, "vm_area_struct", "vm_mm")), cp.DONE], profile, log=True)
    assert f"R1={flags}(" in log


def test_the_order_of_all_reasons(cp, image_btf):
    """non_sleepable_context_description(). No program gets as far as sleeping with a lock held: calls are refused."""
    from kernel_model import profiles
    from kernel_model.bpf.program import ProgSpec, ProgType
    from kernel_model.bpf.verifier.btfview import BtfView

    env = Env(ProgSpec("p", "", ProgType.RAW_TRACEPOINT, []), [], None, BtfView(image_btf), profiles.get(SERIES), 0, "")
    state = env.cur
    state.active_rcu_locks = state.active_preempt_locks = state.active_irq_id = state.active_locks = 1
    state.forbid_fault_count = 1
    told = []
    for name in ("active_rcu_locks", "active_preempt_locks", "active_irq_id", "active_locks", "forbid_fault_count"):
        told.append(regions.non_sleepable_context(env))
        setattr(state, name, 0)
    assert told == [*REGIONS.values(), "lock region", "nofault region"]
    assert regions.non_sleepable_context(env) == "non-sleepable prog"
    state.in_sleepable = True
    assert regions.non_sleepable_context(env) is None


def test_instructions_in_regions_are_remembered(cp, image_btf):
    """insn_aux_data[].non_sleepable, by which a kernel chooses the variant of a kfunc."""
    from kernel_model import profiles
    from kernel_model.bpf.program import ProgSpec, ProgType
    from kernel_model.bpf.verifier import bpf_check

    insns = cp.build([cp.mov(6, 0), cp.RCU, cp.mov(6, 1), cp.UNRCU, cp.DONE], image_btf)
    spec = ProgSpec("p", "", ProgType.SYSCALL, insns, sleepable=True, license="GPL", subprogs=[("p", 0)])
    done = bpf_check(spec, [], None, image_btf, profiles.get(NEW), 0)
    assert [aux.non_sleepable for aux in done.insn_aux] == [False, False, True, True, False, False]


def loads(cp, image_btf, *steps):
    """Which loads of a program probe: the kernel rewrites them to BPF_PROBE_MEM."""
    from kernel_model import profiles
    from kernel_model.bpf.program import ProgSpec, ProgType
    from kernel_model.bpf.verify import verify

    insns = cp.build([*steps], image_btf)
    spec = ProgSpec("p", "", ProgType.SYSCALL, insns, sleepable=True, license="GPL", subprogs=[("p", 0)])
    verdict = verify(spec, [], None, image_btf, profiles.get(OLD), 0, "x86_64")
    return [slot.untrusted_access for slot, insn in zip(verdict.slots, insns, strict=True) if insn.code & 7 == 1]


def test_loads_through_untrusted_pointers_probe(cp, image_btf):
    mm, count = cp.field(1, 6, "task_struct", "mm"), cp.field(0, 1, "mm_struct", "map_count", 0)
    stack, word = cp.field(1, 6, "task_struct", "stack"), cp.Insn(0x79, 0, 1, 8)
    assert loads(cp, image_btf, cp.TASK, mm, count, cp.EXIT) == [False, True]
    assert loads(cp, image_btf, cp.TASK, stack, word, cp.EXIT) == [False, True]
    assert loads(cp, image_btf, cp.TASK, cp.RCU, cp.field(1, 6, "task_struct", "group_leader"),
                 cp.field(0, 1, "task_struct", "pid", 0), cp.UNRCU, cp.DONE) == [False, False]


def test_a_load_that_is_trusted_on_one_path_only_probes(cp, image_btf):
    """r1 is the task on one path and its parent, untrusted, on the other."""
    both = [cp.TASK, cp.helper(7), cp.copy(1, 6), cp.Insn(0x15, 0, 0, 1, 0),
            cp.field(1, 6, "task_struct", "real_parent"), cp.field(0, 1, "task_struct", "pid", 0), cp.EXIT]
    assert loads(cp, image_btf, *both) == [False, True]
    swapped = [cp.TASK, cp.helper(7), cp.copy(1, 6), cp.Insn(0x55, 0, 0, 1, 0),
               cp.field(1, 6, "task_struct", "real_parent"), cp.field(0, 1, "task_struct", "pid", 0), cp.EXIT]
    assert loads(cp, image_btf, *swapped) == [False, True]
    context = [cp.copy(7, 1), cp.TASK, cp.helper(7), cp.copy(1, 6), cp.Insn(0x15, 0, 0, 1, 0), cp.copy(1, 7),
               cp.Insn(0x61, 0, 1, 0), cp.EXIT]
    with pytest.raises(Exception, match="same insn cannot be used with different pointers"):
        loads(cp, image_btf, *context)
