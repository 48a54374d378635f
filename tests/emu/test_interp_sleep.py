"""Interpreted programs whose helpers fault and sleep, and the same programs JITed."""

import struct

import pytest

import emu
from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.prog import Verdict
from kernel_model.bpf.program import ProgSpec, ProgType
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, do_mmap
from kernel_model.mm.uaccess import UserSpace
from kernel_model.sched.requests import Block
from tests.bpf_programs import mov64

EXIT = Insn(bpf.BPF_JMP | bpf.BPF_EXIT)
CALL = bpf.BPF_JMP | bpf.BPF_CALL
COPY_FROM_USER, GET_UID_GID, GET_PID_TGID = 148, 15, 14
PAGE, WHERE = 4096, 0x10000000


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def load(kernel, engine, *functions):
    """Functions of (name, instructions), already verified as it were."""
    insns, placed = [], []
    for name, body in functions:
        placed.append(Function(name, len(insns), len(insns) + len(body), 0))
        insns += body
    spec = ProgSpec(functions[0][0], "syscall", ProgType.SYSCALL, [i.copy() for i in insns],
                    subprogs=[(f.name, f.start) for f in placed])
    return kernel.programs.load(spec, [], Verdict([Slot(True)] * len(insns), placed, None, {}, ""),
                                kernel.types.btf, engine)


def run(kernel, prog, prepare=None):
    """BPF_PROG_TEST_RUN in a process with a fresh page at WHERE; the program's result."""
    task, image = kernel.exec("prog_run")
    do_mmap(task.mm, WHERE, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    if prepare is not None:
        prepare(UserSpace(task.mm, kernel.faults))
    attr = struct.pack("<II", prog.fd, 0).ljust(128, b"\0")
    ended = kernel.run_user("prog_run", {"attr": attr}, read={"attr": 8, "result": 8}, started=(task, image))
    assert ended.exit_code == 0 and not any(ended.values["result"]), ended.dmesg
    return int.from_bytes(ended.values["attr"][4:], "little", signed=True)


def copying(kernel, engine, buffer, user):
    body = [*mov64(1, buffer), *mov64(2, 8), *mov64(3, user), Insn(CALL, imm=COPY_FROM_USER), EXIT]
    return load(kernel, engine, ("outer", [Insn(CALL, 0, bpf.BPF_PSEUDO_CALL, 0, 1), EXIT]), ("inner", body))


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_a_page_that_is_not_there_is_faulted_in_below_the_program(kernel, engine):
    buffer = kernel.slab.kzalloc(8)
    faults = []
    kernel.machine.on_kcall = lambda name, args: faults.append(args) if name == "__handle_mm_fault" else None
    try:
        kernel.space.write_u64(buffer, 1)
        assert run(kernel, copying(kernel, engine, buffer, WHERE)) == 0
        absent = len(faults)
        assert kernel.space.read_u64(buffer) == 0, "a page nobody wrote reads as zeroes"
        prog = copying(kernel, engine, buffer, WHERE)
        assert run(kernel, prog, lambda user: user.poke(WHERE, b"12345678")) == 0
        assert kernel.space.read(buffer, 8) == b"12345678"
        assert len(faults) < 2 * absent, "the page that is there is not faulted in"
    finally:
        kernel.machine.on_kcall = None


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_a_page_that_cannot_be_there_is_efault(kernel, engine):
    buffer = kernel.slab.kzalloc(8)
    kernel.space.write_u64(buffer, 1)
    assert run(kernel, copying(kernel, engine, buffer, WHERE + PAGE)) == -14
    assert kernel.space.read_u64(buffer) == 0


def chain(kernel, task):
    """Symbols of the frames of a task that sleeps, innermost first."""
    fp, names = task.frames[-1].frame_pointer, []
    while fp:
        names.append(kernel.kallsyms.symbol(kernel.space.read_u64(fp + 8)).split("+")[0])
        fp = kernel.space.read_u64(fp)
    return ["_".join(name.split("_")[:2] + name.split("_")[3:]) if name.startswith("bpf_prog_") and
            len(name.split("_")[2]) == 16 else name for name in names]


@pytest.mark.parametrize("cpus", [(0, 0), (0, 1)])
@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_a_program_sleeps_in_a_helper_until_another_task_wakes_it(kernel, replaced, engine, cpus):
    """Two tasks run one program: they take turns, and sleep in a subprogram's helper in between."""
    sched, waiting, slept, traces = kernel.processes.sched, [], [], []

    def sleeps():
        task = kernel.current_task()
        for other in waiting:
            traces.append(chain(kernel, other))
            sched.wake(other, 2)
        waiting.clear()
        slept.append(task)
        if len(slept) < 4:  # the last one has nobody to wake it
            waiting.append(task)
            task.state = 2
            yield Block()
        return task.pid

    replaced("bpf_get_current_uid_gid", lambda *_: sleeps())
    main = [Insn(CALL, 0, bpf.BPF_PSEUDO_CALL, 0, 4), Insn(bpf.BPF_ALU64 | bpf.BPF_MOV | bpf.BPF_X, 6, 0),
            Insn(CALL, 0, bpf.BPF_PSEUDO_CALL, 0, 2), Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 0, 6), EXIT]
    prog = load(kernel, engine, ("outer", main), ("inner", [Insn(CALL, imm=GET_UID_GID), EXIT]))
    attr = struct.pack("<II", prog.fd, 0).ljust(128, b"\0")
    tasks = []
    for cpu in cpus:
        task, image = kernel.exec("prog_run")
        UserSpace(task.mm, kernel.faults).poke(image.addresses["attr"], attr)
        kernel.processes.start_user(task, image, cpu)
        tasks.append(task)
    for task in tasks:
        kernel.processes.run_to_end(task)
    for task in tasks:
        space = UserSpace(task.mm, kernel.faults)
        assert not any(space.read(image.addresses["result"], 8))
        assert int.from_bytes(space.read(image.addresses["attr"] + 4, 4), "little") == 2 * task.pid
        kernel.processes.reap(task)
    assert [t.pid - tasks[0].pid for t in slept] == [0, 1, 0, 1]
    assert len(traces) == 3
    for trace in traces:
        assert trace[:3] == ["bpf_prog_inner", "bpf_prog_outer", "bpf_prog_test_run_syscall"]
    assert kernel.programs._interpreter.running() == 0
