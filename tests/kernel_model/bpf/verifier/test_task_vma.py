"""The task_vma iterator under every kernel: what may be done inside, and who gives references back."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernel_model import profiles
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.object import load_object
from kernel_model.bpf.verifier.errors import VerifierRejected
from kernel_model.bpf.verify import verify
from kernel_model.errors import ObjectFileError
from kernel_model.image import load_image
from kernel_model.types import Btf

ROOT = Path(__file__).parents[4]
BPF = ROOT / "images" / "bpf"
SERIES = "series:kf-forbid-fault-v5"
IN_NOFAULT = "sleepable helper bpf_copy_from_user#148 in nofault region"
RELEASE = "bpf_iter_task_vma_release"
NOTHING_HELD = f"iterator passed to {RELEASE} has no acquired reference to release"


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def vmlinux(request):
    return Btf(load_image(ROOT / "images" / f"vmlinux.{request.param}").section_data(".BTF"), "vmlinux")


@pytest.fixture
def check(vmlinux):
    """check(object, program, profile): the log; VerifierRejected."""

    def run(name, prog, profile, level=1):
        kernel = profiles.get(profile)
        obj = load_object(BPF / f"{name}.bpf.o", vmlinux, absent=absent_kfuncs(kernel))
        maps = [SimpleNamespace(name=m.name, type=m.type, key_size=m.key_size, value_size=m.value_size, id=i,
                                max_entries=m.max_entries, map_flags=m.map_flags, frozen=m.readonly)
                for i, m in enumerate(obj.maps)]  # fmt: skip
        return verify(obj.prog(prog), maps, obj.btf, vmlinux, kernel, level, "x86_64").log

    return run


def refused(check, reason, *args):
    with pytest.raises(VerifierRejected) as caught:
        check(*args)
    assert caught.value.reason == reason
    return caught.value


@pytest.mark.parametrize("profile", ["v6.18", "v7.0", "v7.1", "v7.2"])
def test_kernels_accept_a_program_that_faults_in_the_iteration(check, profile):
    check("task_vma", "sleep_in_iter", profile)
    check("task_vma_nested", "nested_iterators", profile)


def test_the_series_refuses_it_until_it_releases(check):
    error = refused(check, IN_NOFAULT, "task_vma", "sleep_in_iter", SERIES)
    assert error.errno == 22
    check("task_vma_release", "release_then_sleep", SERIES)
    check("task_vma_nested", "nested_iterators", SERIES)


@pytest.mark.parametrize("profile", ["v7.0", "v7.1"])
def test_only_the_series_has_the_release_function(check, profile):
    with pytest.raises(VerifierRejected, match="invalid func unknown#2002000000|referenced but wasn't resolved"):
        check("task_vma_release", "release_then_sleep", profile)


@pytest.mark.parametrize(
    ("prog", "reason"),
    [
        ("nosleep_iter_sleep_without_release", IN_NOFAULT),
        ("nosleep_iter_vma_access_after_release", "invalid mem access 'scalar'"),
        ("nosleep_iter_release_then_sleep", None),
        ("nosleep_iter_double_release", "no acquired reference to release"),
        ("nosleep_iter_release_without_acquire", "no acquired reference to release"),
        ("nosleep_iter_nested_release_inner", IN_NOFAULT),
    ],
)
def test_verdicts_of_the_series(check, prog, reason):
    """What iters_task_vma_nosleep.c of the series KF_FORBID_FAULT v5 expects."""
    if reason is None:
        check("iters_task_vma_nosleep", prog, SERIES)
        return
    with pytest.raises(VerifierRejected) as caught:
        check("iters_task_vma_nosleep", prog, SERIES)
    assert reason in caught.value.reason and caught.value.reason in caught.value.log


def test_the_series_verdicts_are_those_that_the_programs_announce(vmlinux):
    """Each program's tags say what is tested above."""
    obj = load_object(BPF / "iters_task_vma_nosleep.bpf.o", vmlinux)
    assert not any(prog.autoload for prog in obj.progs) and all(prog.sleepable for prog in obj.progs)
    assert {prog.section for prog in obj.progs} == {"?fentry.s/__x64_sys_getpgid"}


@pytest.mark.parametrize(
    "prog", ["iter_task_vma_for_each", "iter_task_vma_release_and_copy", "iter_task_vma_nested"]
)
def test_run_time_programs_of_the_series_load(check, prog):
    check("iters_task_vma", prog, SERIES)


def test_both_architectures_attach_to_their_wrapper(vmlinux, check):
    """One object serves both: the loader takes the prefix that the kernel has."""
    check("iters_task_vma_nosleep", "nosleep_iter_release_then_sleep", SERIES)
    with pytest.raises(ObjectFileError, match="failed to find kernel BTF type ID of '__x64_sys_nothing': -ESRCH"):
        obj = load_object(BPF / "iters_task_vma_nosleep.bpf.o", vmlinux)
        obj.progs[0].attach_to = "__x64_sys_nothing"
        verify(obj.progs[0], [], obj.btf, vmlinux, profiles.get(SERIES), 0, "x86_64")


# -- references of elements, seen in the log -------------------------------------------------------------------------


def calls(log, name):
    """What the log says behind each call of a function."""
    return re.findall(rf"call {name}#\d+ *;(.*)", log)


def test_each_element_is_a_reference_of_its_own(check):
    log = check("task_vma_release", "release_then_sleep", SERIES, 2)
    found = re.findall(r"R0=trusted_ptr_vm_area_struct\(id=(\d+),ref_obj_id=(\d+)\)", log)
    assert found and all(ident == ref for ident, ref in found)
    assert re.search(r"from \d+ to \d+: .*state=active,depth=1\) refs=1,\d+", log)


def test_the_end_of_the_iteration_gives_the_element_back(check):
    log = check("task_vma_release", "release_then_sleep", SERIES, 2)
    ends = [text for text in calls(log, "bpf_iter_task_vma_next") if "state=drained" in text]
    assert ends and all(text.endswith("refs=1") for text in ends)


def test_release_gives_the_element_back_and_keeps_the_iterator(check):
    log = check("iters_task_vma_nosleep", "nosleep_iter_release_then_sleep", SERIES, 2)
    after = calls(log, RELEASE)
    assert after and all(text.endswith("refs=1") for text in after)


def test_destroy_gives_both_back(check):
    log = check("task_vma_nested", "nested_iterators", SERIES, 2)
    assert any("refs" not in text for text in calls(log, "bpf_iter_task_vma_destroy"))


def test_without_the_series_an_element_is_no_reference(check):
    log = check("task_vma", "sleep_in_iter", "v7.0", 2)
    assert "R0=trusted_ptr_vm_area_struct(id=" in log
    assert not re.search(r"vm_area_struct\([^)]*ref_obj_id", log)


def test_a_loop_over_references_converges(check):
    assert int(re.search(r"processed (\d+) insns", check("task_vma_release", "release_then_sleep", SERIES))[1]) < 1000
