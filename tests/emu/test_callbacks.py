"""Helpers that call functions of the program, and helpers that read a task's memory: compiled, verified, run."""

import pytest

import emu
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, do_mmap
from kernel_model.mm.uaccess import UserSpace
from tests.bpf_programs import load_one

PATH, PAGE, WHERE = "images/bpf/callbacks.bpf.o", 4096, 0x10000000
EFAULT, EINVAL, ENOENT, EBUSY, E2BIG = 14, 22, 2, 16, 7


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param, profile="v7.2")


@pytest.fixture(params=["jit", "interp"])
def engine(request):
    return request.param


def number(loaded, name, signed=False):
    return int.from_bytes(loaded.read(name), "little", signed=signed)


def set_number(loaded, name, value):
    loaded.write(name, value.to_bytes(len(loaded.read(name)), "little"))


def loop(kernel, engine, name, **variables):
    """(bpf_loop()'s result, the callback's sum)."""
    loaded = load_one(kernel, PATH, name, engine)
    for variable, value in variables.items():
        set_number(loaded, variable, value)
    done = kernel.run(loaded.prog(name))
    assert not done.oops and not done.error
    return number(loaded, "result", signed=True), number(loaded, "sum")


def attached(kernel, engine, name, prepare, **variables):
    """The object after a process with a mapping of three pages at WHERE has called getpgid(0) once."""
    loaded = load_one(kernel, PATH, name, engine)
    task, image = kernel.exec("getpgid")
    do_mmap(task.mm, WHERE, 3 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    prepare(UserSpace(task.mm, kernel.faults))
    for variable, value in variables.items():
        set_number(loaded, variable, value)
    with kernel.attach(loaded.progs[name]):
        ended = kernel.run_user("getpgid", {}, started=(task, image))
    assert ended.exit_code == 0 and not ended.dmesg
    assert kernel.types.view("mm_struct", task.mm.addr).mm_users.counter == 1, "a reference to the mm is left"
    assert kernel.types.view("mm_struct", task.mm.addr).mmap_lock.count.counter == 0, "mmap_lock is still held"
    return loaded


def nothing(user):
    """Memory nobody has touched."""


# -- bpf_loop() --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [0, 1, 100])
def test_a_loop_calls_back_with_each_index(kernel, engine, rounds):
    assert loop(kernel, engine, "loop", rounds=rounds) == (rounds, rounds * (rounds + 1) // 2)


def test_a_callback_that_returns_one_ends_the_loop(kernel, engine):
    assert loop(kernel, engine, "loop", rounds=100, stop_at=3) == (4, 10)


def test_a_loop_in_a_loop(kernel, engine):
    assert loop(kernel, engine, "loop_nested", rounds=10) == (3, 3 * 55)


def test_what_a_loop_refuses(kernel, engine):
    assert loop(kernel, engine, "loop_flags")[0] == -EINVAL
    assert loop(kernel, engine, "loop", rounds=(8 << 20) + 1) == (-E2BIG, 0)


# -- bpf_find_vma() ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [WHERE, WHERE + PAGE + 5, WHERE + 3 * PAGE - 1])
def test_the_callback_sees_the_vma_that_holds_the_address(kernel, engine, at):
    loaded = attached(kernel, engine, "find", nothing, where=at)
    assert number(loaded, "result") == 0 and number(loaded, "found_at") == at
    assert (number(loaded, "vm_start"), number(loaded, "vm_end")) == (WHERE, WHERE + 3 * PAGE)


@pytest.mark.parametrize("at", [0, WHERE - 1, WHERE + 3 * PAGE])
def test_no_vma_no_callback(kernel, engine, at):
    loaded = attached(kernel, engine, "find", nothing, where=at)
    assert number(loaded, "result", signed=True) == -ENOENT and number(loaded, "vm_end") == 0


def test_the_callback_may_fault_with_mmap_lock_held(kernel, engine):
    """The page is not there: a reader takes mmap_lock a second time, which works while no writer waits."""
    loaded = attached(kernel, engine, "find_and_copy", nothing, where=WHERE)
    assert number(loaded, "result") == number(loaded, "copy_result") == 0 and number(loaded, "vm_start") == WHERE


def test_a_writer_keeps_bpf_find_vma_out(kernel):
    task, _ = kernel.exec("touch")
    call = kernel.machine.call
    call("mmap_write_lock", task.mm.addr)
    assert call("bpf_find_vma", task.address, WHERE, 0, 0, 0) == -EBUSY & (1 << 64) - 1
    call("mmap_write_unlock", task.mm.addr)
    assert call("bpf_find_vma", task.address, 1, 0, 0, 0) == -ENOENT & (1 << 64) - 1


# -- a task's memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "length"), [(0, 8), (PAGE - 3, 8), (5, 2 * PAGE), (0, 0)])
def test_the_memory_of_a_task(kernel, engine, offset, length):
    data = bytes(i * 7 & 0xFF for i in range(3 * PAGE))
    loaded = attached(kernel, engine, "copy_task", lambda user: user.poke(WHERE, data), where=WHERE + offset,
                      length=length)
    assert number(loaded, "result") == 0
    assert loaded.read("copied")[:length] == data[offset : offset + length]


def test_pages_that_are_not_there_are_faulted_in_for_it(kernel, engine):
    faults = []
    kernel.machine.on_kcall = lambda name, args: faults.append(args[1:3]) if name == "__handle_mm_fault" else None
    try:
        loaded = attached(kernel, engine, "copy_task", nothing, where=WHERE + PAGE - 1, length=2)
    finally:
        kernel.machine.on_kcall = None
    assert number(loaded, "result") == 0
    remote = 0x80
    assert [f for f in faults if f[1] & remote] == [(WHERE + PAGE - 1, remote), (WHERE + PAGE, remote)]


@pytest.mark.parametrize(("where", "length"), [(WHERE - 8, 8), (WHERE + 3 * PAGE - 4, 8), (0, 8)])
def test_what_cannot_be_read_whole_reads_as_zeroes(kernel, engine, where, length):
    loaded = attached(kernel, engine, "copy_task", lambda user: user.poke(WHERE + 2 * PAGE, b"\xff" * PAGE),
                      where=where, length=length)
    assert number(loaded, "result", signed=True) == -EFAULT
    assert loaded.read("copied")[:length] == bytes(length)


def test_flags_are_refused(kernel, engine):
    loaded = attached(kernel, engine, "copy_task_flags", nothing, where=WHERE)
    assert number(loaded, "result", signed=True) == -EINVAL


@pytest.mark.parametrize(
    ("where", "memory", "result", "text"),
    [
        (WHERE, b"abc\0def", 4, b"abc\0"),
        (WHERE + PAGE - 2, b"\0" * (PAGE - 2) + b"abc\0", 4, b"abc\0"),
        (WHERE, b"0123456789abcdefghij\0", 16, b"0123456789abcde\0"),
        (WHERE, b"\0", 1, b"\0"),
        (WHERE + 3 * PAGE, b"", -EFAULT, b"\0"),
        (WHERE + 3 * PAGE - 2, b"x" * 3 * PAGE, -EFAULT, b"\0"),
    ],
)
def test_a_string_of_a_task(kernel, engine, where, memory, result, text):
    loaded = attached(kernel, engine, "copy_task_str", lambda user: user.poke(WHERE, memory), where=where)
    assert number(loaded, "result", signed=True) == result
    assert loaded.read("text")[: len(text)] == text


def test_a_stack_grows_for_a_remote_reader(kernel, engine):
    """An address below the stack: __access_remote_vm() takes mmap_lock for writing to move its start."""
    loaded = load_one(kernel, PATH, "copy_task", engine)
    task, image = kernel.exec("getpgid")
    stack = next(vma for vma in task.mm.vmas() if vma.vm_flags & 0x100)  # VM_GROWSDOWN
    before = stack.vm_start
    set_number(loaded, "where", before - 3 * PAGE)
    set_number(loaded, "length", 8)
    with kernel.attach(loaded.progs["copy_task"]):
        kernel.run_user("getpgid", {}, started=(task, image))
    assert number(loaded, "result") == 0 and stack.vm_start == before - 3 * PAGE


def test_reads_that_do_not_fault(kernel, engine):
    """A page that is not there stays so: -EFAULT, and zeroes."""
    loaded = attached(kernel, engine, "probe", nothing, where=WHERE)
    assert number(loaded, "result", signed=True) == number(loaded, "copy_result", signed=True) == -EFAULT
    assert loaded.read("copied")[:16] == bytes(16)
    assert number(loaded, "sum") == 8 and loaded.read("text")[:8] == b"getpgid\0"
    loaded = attached(kernel, engine, "probe", lambda user: user.poke(WHERE, b"hello\0zzzzzzzz"), where=WHERE)
    assert number(loaded, "result") == 0 and number(loaded, "copy_result") == 6
    assert loaded.read("copied")[:14] == b"hello\0zz" + b"hello\0"


def test_the_iterators_lock_and_the_readers_lock_are_one(engine):
    """v7.0: the iterator holds mmap_lock, bpf_copy_from_user_task() takes it again; no writer waits in between."""
    for arch in ("x86_64", "arm64"):
        loaded = attached(emu.boot(arch=arch, profile="v7.0"), engine, "iter_copy_task",
                          lambda user: user.poke(WHERE, b"12345678"), where=WHERE)
        assert number(loaded, "found_at") == WHERE and number(loaded, "copy_result") == 0
        assert loaded.read("copied")[:8] == b"12345678"
