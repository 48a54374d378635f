"""Programs at functions and tracepoints: where they may attach, what their context holds, what they return."""

import pytest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fentry", None),
        ("fentry_beyond", (8, 8)),
        ("fentry_half", (0, 4)),
        ("fentry_between", (4, 4)),
        ("fentry_far", (96, 8)),
        ("fentry_written", (0, 8)),
    ],
)
def test_the_context_is_the_functions_arguments(cp, outcome, name, expected):
    refusal = (13, "invalid bpf_context access off={} size={}".format(*expected)) if expected else None
    assert outcome(cp.TRACED[name]) == refusal


def test_an_argument_has_the_type_of_the_prototype(cp, outcome, image_btf):
    regs = image_btf.find("pt_regs")
    log = outcome(cp.TRACED["fentry"], log=True)
    assert f"func '__x64_sys_getpgid' arg0 has btf_id {regs.id} type STRUCT 'pt_regs'\n" in log
    assert "R7=ptr_pt_regs()" in log  # not trusted: such an argument may be anything
    assert "R7=trusted_ptr_pt_regs()" in outcome(cp.TRACED["tp_btf"], log=True)
    assert "R7=scalar()" in outcome(cp.TRACED["raw_tp"], log=True)


def test_why_an_argument_cannot_be_loaded(cp, outcome):
    assert "func '__x64_sys_getpgid' doesn't have 2-th argument\n" in outcome(cp.TRACED["fentry_beyond"], log=True)
    assert "func '__x64_sys_getpgid' size 4 must be 8\n" in outcome(cp.TRACED["fentry_half"], log=True)
    assert "func '__x64_sys_getpgid' offset 4 is not multiple of 8\n" in outcome(cp.TRACED["fentry_between"], log=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fentry_returns_one", "At program exit the register R0 has smin=1 smax=1 should have been in [0, 0]"),
        ("fentry_returns_anything",
         "At program exit the register R0 has unknown scalar value should have been in [0, 0]"),
        ("fentry_returns_a_pointer", "At program exit the register R0 is not a known value (fp)"),
    ],
)
def test_programs_at_functions_return_zero(cp, outcome, name, text):
    assert outcome(cp.TRACED[name]) == (22, text)


def test_tracepoints_return_anything(cp, outcome):
    assert outcome(cp.TRACED["tp_btf_returns_one"]) is None
    assert outcome(cp.TRACED["raw_tp"]) is None


def test_who_may_sleep(cp, outcome):
    assert outcome(cp.TRACED["fentry_sleeps"]) is None
    assert outcome(cp.TRACED["fentry_sleeps_not"]) == (22, "helper call might sleep in a non-sleepable prog")
    only = "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable"
    assert outcome(cp.TRACED["raw_tp_sleeps"]) == (22, only)
    assert outcome(cp.TRACED["syscall_without_sleep"]) == (22, "Syscall programs can only be sleepable")


def test_sleepable_programs_attach_where_errors_may_be_injected(cp, outcome):
    """Wrappers of system calls are such functions, others are not."""
    target = cp.fentry(cp.DONE, sleepable=True, target="copy_from_user")
    assert outcome(target) == (22, "copy_from_user is not sleepable")
    assert outcome(cp.fentry(cp.DONE, target="copy_from_user")) is None


def test_a_target_must_be_given_and_be_a_function(cp, outcome, image_btf):
    missing = cp.fentry(cp.DONE, target="no_such_function")
    assert outcome(missing) == (22, "Tracing programs must provide btf_id")
    typedef = image_btf.find("btf_trace_sys_enter").id

    class Wrong(cp.Traced):
        def attach_btf_id(self, btf):
            return typedef

    assert outcome(Wrong(cp.DONE)) == (22, f"attach_btf_id {typedef} is not a function")


def test_a_plain_pointer_is_no_trusted_argument(cp, outcome):
    """An argument of a function is an old plain pointer: a kfunc that wants RCU or trust does not take it."""
    plain = cp.fentry(cp.ARG0, cp.copy(6, 7), cp.vma_new(), cp.vma("destroy"), cp.DONE, target="fatal_signal_pending")
    assert outcome(plain) == (22, "R2 must be a rcu pointer")
