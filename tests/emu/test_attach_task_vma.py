"""The run-time programs of the series KF_FORBID_FAULT v5 (its iters_task_vma.c), compiled, verified and attached."""

import struct

import pytest

import emu
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.object import load_object
from kernel_model.errors import ObjectFileError
from tests.bpf_programs import load_one

SERIES, PATH = "series:kf-forbid-fault-v5", "images/bpf/iters_task_vma.bpf.o"


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param, profile=SERIES)


def run(kernel, loaded, target=True, calls=1):
    """A process that calls getpgid(0), or another one's pid in target_pid: its VMAs as they were before it ran."""
    started = kernel.exec("getpgid")
    task = started[0]
    loaded.write("target_pid", struct.pack("<i", task.pid + (0 if target else 1000)))
    vmas = [(vma.vm_start, vma.vm_end) for vma in task.mm.vmas()]
    with kernel.attach(next(iter(loaded.progs.values()))):
        result = kernel.run_user("getpgid", {"calls": struct.pack("<I", calls)}, read={"result": 8}, started=started)
    assert result.exit_code == 0 and int.from_bytes(result.values["result"], "little") == task.tgid
    assert not result.dmesg
    return vmas


def count(loaded, name):
    return int.from_bytes(loaded.read(name), "little")


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_raw_tp_records_the_vmas_of_the_task(kernel, engine):
    loaded = load_one(kernel, PATH, "iter_task_vma_for_each", engine)
    vmas = run(kernel, loaded)
    assert count(loaded, "vmas_seen") == len(vmas) > 1
    found = loaded.read("ranges")
    assert [struct.unpack_from("<2Q", found, 16 * i) for i in range(len(vmas))] == vmas


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_fentry_copies_from_each_vma_after_a_release(kernel, engine):
    loaded = load_one(kernel, PATH, "iter_task_vma_release_and_copy", engine)
    vmas = run(kernel, loaded)
    assert count(loaded, "release_vmas_seen") == len(vmas)
    run(kernel, loaded, calls=3)
    assert count(loaded, "release_vmas_seen") == 4 * len(vmas), "once for each call"


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_fentry_nests_two_iterators_over_one_mm(kernel, engine):
    loaded = load_one(kernel, PATH, "iter_task_vma_nested", engine)
    vmas = run(kernel, loaded)
    assert count(loaded, "nested_vmas_seen") == len(vmas)


@pytest.mark.parametrize("name", ["iter_task_vma_for_each", "iter_task_vma_nested"])
def test_other_tasks_are_let_alone(kernel, name):
    loaded = load_one(kernel, PATH, name, "jit")
    run(kernel, loaded, target=False)
    assert count(loaded, "vmas_seen") == count(loaded, "nested_vmas_seen") == 0


def test_nothing_runs_that_is_not_attached(kernel):
    loaded = load_one(kernel, PATH, "iter_task_vma_nested", "jit")
    started = kernel.exec("getpgid")
    loaded.write("target_pid", struct.pack("<i", started[0].pid))
    assert kernel.run_user("getpgid", started=started).exit_code == 0
    assert count(loaded, "nested_vmas_seen") == 0


def test_the_system_call_itself(kernel):
    """getpgid() of the caller, whatever is attached."""
    started = kernel.exec("getpgid")
    result = kernel.run_user("getpgid", read={"result": 8}, started=started)
    assert int.from_bytes(result.values["result"], "little") == started[0].tgid


def test_a_target_that_is_not_there_is_refused_when_the_program_is_loaded(kernel):
    obj = load_object(PATH, kernel.types.btf, absent=absent_kfuncs(kernel.profile))
    spec = next(p for p in obj.progs if p.name == "iter_task_vma_nested")
    spec.attach_to, spec.attach_btf_id = "sys_nosuch", 0
    with pytest.raises(ObjectFileError, match="failed to find kernel BTF type ID of 'sys_nosuch': -ESRCH"):
        kernel.load_prog(spec, obj, kernel.create_maps(obj))
