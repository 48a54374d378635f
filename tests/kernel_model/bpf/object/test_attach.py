"""From SEC() to the kernel's BTF."""

from pathlib import Path

import pytest

from kernel_model.bpf.object.attach import find_attach_btf_id, needs_target
from kernel_model.bpf.object.secdef import find_sec_def
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.errors import ObjectFileError
from kernel_model.image import load_image
from kernel_model.types import Btf

IMAGES = Path(__file__).parents[4] / "images"


def spec(section):
    row, target = find_sec_def(section.removeprefix("?"))
    return ProgSpec("p", section, row.type, [], row.attach_type, target, row.sleepable, not section.startswith("?"))


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    found = Btf(load_image(IMAGES / f"vmlinux.{request.param}").section_data(".BTF"), request.param)
    return request.param, found


def name(kernel, section):
    btf = kernel[1]
    return btf.type(find_attach_btf_id(spec(section), btf)).name


@pytest.mark.parametrize("prefix", ["__x64_", "__arm64_"])
@pytest.mark.parametrize("kind", ["fentry", "fentry.s", "fexit", "fmod_ret.s"])
def test_wrappers_of_system_calls_are_the_running_kernels(kernel, kind, prefix):
    wrapper = {"x86_64": "__x64_sys_getpgid", "arm64": "__arm64_sys_getpgid"}[kernel[0]]
    assert name(kernel, f"{kind}/{prefix}sys_getpgid") == wrapper


def test_functions_and_tracepoints(kernel):
    assert name(kernel, "fentry/copy_from_user") == "copy_from_user"
    assert name(kernel, "fentry/vmlinux:copy_from_user") == "copy_from_user"
    assert name(kernel, "tp_btf/sys_enter") == "btf_trace_sys_enter"


@pytest.mark.parametrize("section", ["fentry/nothing", "fentry.s/__x64_sys_nothing", "tp_btf/copy_from_user"])
def test_what_is_not_there_is_an_error_in_libbpfs_words(kernel, section):
    target = section.split("/")[1]
    with pytest.raises(ObjectFileError) as caught:
        find_attach_btf_id(spec(section), kernel[1])
    assert str(caught.value) == f"prog 'p': failed to find kernel BTF type ID of '{target}': -ESRCH"


def test_a_section_without_a_target(kernel):
    with pytest.raises(ObjectFileError, match="no BTF-based attach target is specified"):
        find_attach_btf_id(spec("fentry"), kernel[1])


def test_who_needs_a_target():
    assert needs_target(spec("fentry.s/x")) and needs_target(spec("tp_btf/x"))
    assert not needs_target(spec("raw_tp/x")) and not needs_target(spec("syscall"))
    assert spec("raw_tracepoint/x").type is ProgType.RAW_TRACEPOINT
