"""Attached programs run: at the entry of functions and on tracepoints, on both engines and both architectures."""

import re
import struct

import pytest

import emu
from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.object.secdef import find_sec_def
from kernel_model.bpf.prog import Verdict, kfunc_ids
from kernel_model.bpf.program import ProgSpec
from kernel_model.errors import KernelErrno, NotModelledError
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, do_mmap
from kernel_model.mm.uaccess import UserSpace
from kernel_model.sched.requests import Block, GuestCall
from tests.bpf_programs import mov64

EXIT = Insn(bpf.BPF_JMP | bpf.BPF_EXIT)
CALL = bpf.BPF_JMP | bpf.BPF_CALL
DW = bpf.BPF_MEM | bpf.BPF_DW
COPY_FROM_USER, GET_UID_GID = 148, 15
SYS_BPF = {"x86_64": "__x64_sys_bpf", "arm64": "__arm64_sys_bpf"}
FIRST_ARGUMENT = {"x86_64": 112, "arm64": 0}  # offset of a system call's first argument in struct pt_regs
NR_BPF, NR_EXIT_GROUP = {"x86_64": 321, "arm64": 280}, {"x86_64": 231, "arm64": 94}
BPF_PROG_TEST_RUN = 10


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


@pytest.fixture(params=["jit", "interp"])
def engine(request):
    return request.param


def ldx(dst, src, off):
    return Insn(bpf.BPF_LDX | DW, dst, src, off)


def stx(dst, src, off):
    return Insn(bpf.BPF_STX | DW, dst, src, off)


def add(dst, value):
    return Insn(bpf.BPF_ALU64 | bpf.BPF_ADD, dst, 0, 0, value)


DONE = [Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 0), EXIT]


def load(kernel, engine, section, body, name="tracer"):
    """A program of one function, verified as it were."""
    row, to = find_sec_def(section)
    spec = ProgSpec(name, section, row.type, [i.copy() for i in body], row.attach_type, to, sleepable=row.sleepable,
                    subprogs=[(name, 0)])
    verdict = Verdict([Slot(True)] * len(body), [Function(name, 0, len(body), 0)], None, {}, "")
    return kernel.programs.load(spec, [], verdict, kernel.types.btf, engine)


def fentry(kernel):
    return f"fentry.s/{SYS_BPF[kernel.arch.name]}"


def recorder(kernel, *loads):
    """(buffer, body): each run appends the values that `loads` leave in R6."""
    buffer = kernel.slab.kzalloc(1024)
    body = [*mov64(7, buffer)]
    for part in loads:
        body += [*part, ldx(8, 7, 0), Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 8, 7), stx(8, 6, 8),
                 ldx(8, 7, 0), add(8, 8), stx(7, 8, 0)]
    return buffer, [*body, *DONE]


def recorded(kernel, buffer, signed=False):
    count = kernel.space.read_u64(buffer) // 8
    return list(struct.unpack(f"<{count}{'q' if signed else 'Q'}", kernel.space.read(buffer + 8, 8 * count)))


@pytest.fixture
def nothing(kernel):
    """A program that only returns 5: running it is one bpf(2)."""
    return load(kernel, "jit", "syscall", [Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 0, 0, 0, 5), EXIT], "nothing")


def entry(kernel):
    return kernel.space.read(kernel.machine.symbol(SYS_BPF[kernel.arch.name]), 16)


# -- fentry ----------------------------------------------------------------------------------------------------------


def test_fentry_runs_once_for_each_call_with_the_arguments(kernel, engine, nothing):
    argument = FIRST_ARGUMENT[kernel.arch.name]
    buffer, body = recorder(kernel, [ldx(6, 1, 0), ldx(6, 6, argument)], [ldx(6, 1, -8)])
    before = entry(kernel)
    with kernel.attach(load(kernel, engine, fentry(kernel), body)) as link:
        assert link.attached and entry(kernel) != before
        for _ in range(3):
            result = kernel.run(nothing)
            assert (result.retval, result.error, result.oops) == (5, 0, False), "the traced function is as before"
        assert recorded(kernel, buffer) == [BPF_PROG_TEST_RUN, 1] * 3
    assert not link.attached and entry(kernel) == before
    assert kernel.run(nothing).retval == 5 and len(recorded(kernel, buffer)) == 6
    link.detach()  # once more: nothing


def test_programs_on_one_function_run_the_last_one_first(kernel, engine, nothing):
    buffer = kernel.slab.kzalloc(64)
    free, before = kernel.init_mm.pages.nr_free, entry(kernel)

    def digit(value):
        ten = Insn(bpf.BPF_ALU64 | bpf.BPF_MUL, 8, 0, 0, 10)
        return load(kernel, engine, fentry(kernel),
                    [*mov64(7, buffer), ldx(8, 7, 0), ten, add(8, value), stx(7, 8, 0), *DONE])

    def runs():
        kernel.space.write_u64(buffer, 0)
        assert kernel.run(nothing).retval == 5
        return kernel.space.read_u64(buffer)

    progs = [digit(value) for value in (1, 2, 3)]
    runs()
    free = kernel.init_mm.pages.nr_free
    links = [kernel.attach(prog) for prog in progs]
    assert runs() == 321
    links[1].detach()
    assert runs() == 31
    again = kernel.attach(progs[1])
    assert runs() == 231
    for link in (*links, again):
        link.detach()
    assert runs() == 0 and entry(kernel) == before
    assert kernel.init_mm.pages.nr_free == free, "images of trampolines are given back"


def test_a_trace_shows_trampoline_and_traced_function(kernel, engine, nothing):
    null = [*mov64(1, 0xFF0), Insn(CALL, 0, bpf.BPF_PSEUDO_KFUNC_CALL, 0,
                                 kfunc_ids(kernel.types.btf)["bpf_kfunc_read_kern"]), *DONE]
    function = SYS_BPF[kernel.arch.name]
    key = kernel.attachments.trampolines.get(kernel.types.btf.find(function).id).key
    assert key == 0x1_8000_0000 | kernel.types.btf.find(function).id
    with kernel.attach(load(kernel, engine, fentry(kernel), null)):
        result = kernel.run(nothing)
    assert result.oops
    trace = re.split("call trace:", result.dmesg, flags=re.I)[1]
    names = re.findall(r"^ (\w+)\+0x", trace, re.M)
    names = [re.sub(r"_[0-9a-f]{16}_", "_", name) for name in names]
    assert names[names.index("bpf_prog_tracer") :][:4] == [
        "bpf_prog_tracer", f"bpf_trampoline_{key}", function,
        {"x86_64": "do_syscall_64", "arm64": "do_el0_svc"}[kernel.arch.name],
    ]
    assert not any("bpf_trampoline" in name for _, _, name in kernel.kallsyms._bpf)


def test_the_stack_walk_of_bpf_passes_through_the_trampoline(kernel, engine, nothing, replaced):
    """arch_bpf_stack_walk(), which finds the program of a fault."""
    cookie = kernel.slab.kzalloc(8 * 65)

    def walk(*_):
        kernel.space.write(cookie + 8 * 64, bytes(4))
        yield GuestCall("arch_bpf_stack_walk", kernel.machine.symbol("dump_stack_cb"), cookie)

    replaced("bpf_get_current_uid_gid", walk)
    with kernel.attach(load(kernel, engine, fentry(kernel), [Insn(CALL, imm=GET_UID_GID), *DONE])):
        assert kernel.run(nothing).retval == 5
        count = int.from_bytes(kernel.space.read(cookie + 8 * 64, 4), "little")
        ips = struct.unpack(f"<{count}Q", kernel.space.read(cookie, 8 * count))
        names = [re.sub(r"_[0-9a-f]{16}_", "_", kernel.kallsyms.symbol(ip).split("+")[0]) for ip in ips]
    at = names.index("bpf_prog_tracer")
    assert names[at + 1].startswith("bpf_trampoline_")
    assert names[at + 2 : at + 4] == [SYS_BPF[kernel.arch.name],
                                      {"x86_64": "do_syscall_64", "arm64": "do_el0_svc"}[kernel.arch.name]]


def test_a_program_that_is_under_way_is_left_out_and_counted(kernel, engine, nothing):
    buffer, body = recorder(kernel, [ldx(6, 1, -8)])
    prog = load(kernel, engine, fentry(kernel), body)
    active = prog.address + kernel.types.offsetof("bpf_prog", "active")
    with kernel.attach(prog):
        kernel.space.write(active, (1).to_bytes(4, "little"))
        assert kernel.run(nothing).retval == 5
        assert kernel.run(nothing, cpu=1).retval == 5
        assert kernel.space.read(active, 8) == struct.pack("<2I", 1, 0)
        kernel.space.write(active, bytes(4))
        assert kernel.run(nothing).retval == 5
    assert recorded(kernel, buffer) == [1, 1] and kernel.types.view("bpf_prog", prog.address).misses == 1


def test_a_sleepable_program_faults_in_what_it_copies(kernel, engine, nothing):
    where, out = 0x10000000, kernel.slab.kzalloc(16)
    body = [*mov64(1, out), *mov64(2, 8), *mov64(3, where), Insn(CALL, imm=COPY_FROM_USER), *mov64(7, out),
            stx(7, 0, 8), *DONE]
    attr = struct.pack("<II", nothing.fd, 0).ljust(128, b"\0")
    with kernel.attach(load(kernel, engine, fentry(kernel), body)):
        for mapped, outcome in ((True, 0), (False, -14)):
            task, image = kernel.exec("prog_run")
            if mapped:
                do_mmap(task.mm, where, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
            kernel.space.write_u64(out, 1)
            result = kernel.run_user("prog_run", {"attr": attr}, read={"attr": 8}, started=(task, image))
            assert result.exit_code == 0 and result.values["attr"][4:] == struct.pack("<I", 5)
            assert struct.unpack("<Qq", kernel.space.read(out, 16)) == (0, outcome)


@pytest.mark.parametrize("cpus, runs", [((0, 1), 2), ((0, 0), 1)])
def test_a_program_that_sleeps_lets_others_come_by(kernel, engine, nothing, replaced, cpus, runs):
    """On its own CPU the program is under way meanwhile, and left out."""
    sched, waiting, calls = kernel.processes.sched, [], []

    def sleeps(*_):
        task = kernel.current_task()
        calls.append(task.pid)
        if len(calls) == 1:
            waiting.append(task)
            task.state = 2
            yield Block()
        return 0

    def wakes(task):
        for other in waiting:
            sched.wake(other, 2)
        waiting.clear()

    replaced("bpf_get_current_uid_gid", sleeps)
    prog = load(kernel, engine, fentry(kernel), [Insn(CALL, imm=GET_UID_GID), *DONE])
    attr = struct.pack("<II", nothing.fd, 0).ljust(128, b"\0")
    before, tasks = entry(kernel), []
    link = kernel.attach(prog)
    for cpu in cpus:
        task, image = kernel.exec("prog_run")
        UserSpace(task.mm, kernel.faults).poke(image.addresses["attr"], attr)
        kernel.processes.start_user(task, image, cpu)
        tasks.append(task)
    sched.on_exit.append(wakes)
    try:
        for task in (tasks[1], tasks[0]):
            kernel.processes.run_to_end(task)
            link.detach()  # while the first one is still in the trampoline
    finally:
        sched.on_exit.remove(wakes)
    for task in tasks:
        assert UserSpace(task.mm, kernel.faults).read(image.addresses["attr"] + 4, 4) == struct.pack("<I", 5)
        kernel.processes.reap(task)
    assert calls == [t.pid for t in tasks][:runs] and entry(kernel) == before
    assert kernel.types.view("bpf_prog", prog.address).misses == 2 - runs
    kernel.attach(prog).detach()
    assert not kernel.attachments.trampolines._retired, "the image went when nobody was in it"


# -- tracepoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["raw_tp/sys_enter", "tp_btf/sys_enter", "raw_tracepoint/sys_enter"])
def test_a_program_on_sys_enter_sees_every_system_call(kernel, engine, nothing, section):
    buffer, body = recorder(kernel, [ldx(6, 1, 8)], [ldx(6, 1, 0), ldx(6, 6, FIRST_ARGUMENT[kernel.arch.name])])
    arch = kernel.arch.name
    with kernel.attach(load(kernel, engine, section, body)):
        assert kernel.run(nothing).retval == 5
        assert recorded(kernel, buffer) == [NR_BPF[arch], BPF_PROG_TEST_RUN, NR_EXIT_GROUP[arch], 0]
    assert kernel.run(nothing).retval == 5 and len(recorded(kernel, buffer)) == 4


def test_a_program_on_sys_exit_sees_results(kernel, engine, nothing):
    buffer, body = recorder(kernel, [ldx(6, 1, 8)])
    with kernel.attach(load(kernel, engine, "raw_tp/sys_exit", body)):
        assert kernel.run(nothing).retval == 5
        bad = struct.pack("<II", 9999, 0).ljust(128, b"\0")
        kernel.run_user("prog_run", {"attr": bad})
    assert recorded(kernel, buffer, signed=True) == [0, -9], "exit_group() does not come back"


def test_programs_on_a_tracepoint_run_in_the_order_of_attaching(kernel, engine, nothing):
    buffer = kernel.slab.kzalloc(64)

    def digit(value):
        ten = Insn(bpf.BPF_ALU64 | bpf.BPF_MUL, 8, 0, 0, 10)
        return load(kernel, engine, "raw_tp/sys_exit",
                    [*mov64(7, buffer), ldx(8, 7, 0), ten, add(8, value), stx(7, 8, 0), *DONE])

    links = [kernel.attach(digit(value)) for value in (1, 2, 3)]
    for outcome in (123, 13, 1, 0):
        kernel.space.write_u64(buffer, 0)
        assert kernel.run(nothing).retval == 5
        assert kernel.space.read_u64(buffer) == outcome
        if links:
            links.pop(1 if len(links) > 1 else 0).detach()


def test_threads_on_both_cpus_are_seen(kernel, engine):
    buffer, body = recorder(kernel, [ldx(6, 1, 8)])
    with kernel.attach(load(kernel, engine, "raw_tp/sys_enter", body)):
        result = kernel.run_user("threads", read={"counts": 8})
    assert result.exit_code == 7 and result.values["counts"] == struct.pack("<2I", 10, 10)
    seen = recorded(kernel, buffer)
    clone, exit_ = {"x86_64": (56, 60), "arm64": (220, 93)}[kernel.arch.name]
    assert (seen.count(clone), seen.count(exit_), seen.count(NR_EXIT_GROUP[kernel.arch.name])) == (2, 2, 1)


# -- what it costs, what is refused ----------------------------------------------------------------------------------


def test_nothing_attached_costs_no_kcall(kernel, nothing):
    """And an attached program costs only what it calls itself."""
    calls = []

    def run():
        calls.clear()
        assert kernel.run(nothing).retval == 5
        return list(calls)

    kernel.machine.on_kcall = lambda name, arguments: calls.append(name)
    try:
        never = run()
        links = [kernel.attach(load(kernel, "jit", section, DONE)) for section in (fentry(kernel), "raw_tp/sys_enter")]
        attached = run()
        for link in links:
            link.detach()
        assert never == attached == run()
    finally:
        kernel.machine.on_kcall = None


def test_entries_are_nops_after_boot(kernel):
    traced = kernel.attachments.ftrace.locations
    assert kernel.machine.symbol(SYS_BPF[kernel.arch.name]) in traced
    for function in traced:
        code = kernel.space.read(function, 8)
        assert code[:5] == bytes.fromhex("0f1f440000") if kernel.arch.name == "x86_64" else \
            code == bytes.fromhex("e9031eaa1f2003d5")


@pytest.mark.parametrize(
    "section, number, text",
    [
        ("raw_tp/no_such_event", 2, "prog 'tracer': failed to attach to raw tracepoint 'no_such_event': -ENOENT"),
        ("tp_btf/no_such_event", 2, "prog 'tracer': failed to attach to raw tracepoint 'no_such_event': -ENOENT"),
        ("raw_tp", 95, "prog 'tracer': failed to auto-attach: -EOPNOTSUPP"),
        ("syscall", 95, "prog 'tracer': failed to auto-attach: -EOPNOTSUPP"),
        ("fentry/nosuch", 3, "prog 'tracer': failed to find kernel BTF type ID of 'nosuch': -ESRCH"),
    ],
)  # fmt: skip
def test_what_cannot_be_attached_is_refused_in_libbpfs_words(kernel, section, number, text):
    with pytest.raises(KernelErrno) as error:
        kernel.attach(load(kernel, "jit", section, DONE))
    assert (error.value.errno, str(error.value)) == (number, text)


def test_a_function_without_an_entry_to_change(kernel):
    name, number = {"x86_64": ("EBUSY", 16), "arm64": ("ENOTSUPP", 524)}[kernel.arch.name]
    with pytest.raises(KernelErrno) as error:
        kernel.attach(load(kernel, "jit", "fentry/bpf_probe_read_kernel", DONE))
    assert (error.value.errno, str(error.value)) == (number, f"prog 'tracer': failed to attach: -{name}")


def test_a_program_is_attached_once(kernel):
    prog = load(kernel, "jit", fentry(kernel), DONE)
    with kernel.attach(prog), pytest.raises(KernelErrno, match="prog 'tracer': failed to attach: -EBUSY"):
        kernel.attach(prog)
    kernel.attach(prog).detach()


def test_38_programs_fit(kernel, nothing):
    buffer = kernel.slab.kzalloc(64)
    body = [*mov64(7, buffer), ldx(8, 7, 0), add(8, 1), stx(7, 8, 0), *DONE]
    links = [kernel.attach(load(kernel, "jit", fentry(kernel), body)) for _ in range(38)]
    with pytest.raises(KernelErrno, match="prog 'tracer': failed to attach: -E2BIG"):
        kernel.attach(load(kernel, "jit", fentry(kernel), body))
    assert kernel.run(nothing).retval == 5 and kernel.space.read_u64(buffer) == 38
    for link in links:
        link.detach()


@pytest.mark.parametrize("section, word", [("fexit", "fexit"), ("fmod_ret.s", "fmod_ret"), ("kprobe", "kprobe")])
def test_what_is_not_modelled_is_named(kernel, section, word):
    prog = load(kernel, "jit", f"{section}/{SYS_BPF[kernel.arch.name]}", DONE)
    with pytest.raises(NotModelledError, match=word):
        kernel.attach(prog)
