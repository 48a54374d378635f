"""Programs about tasks other than the current one: iterators, references, memory."""

import struct

import pytest

import emu
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, do_mmap
from kernel_model.mm.uaccess import UserSpace
from tests.bpf_programs import load_one

PATH, PAGE, WHERE = "images/bpf/tasks.bpf.o", 4096, 0x10000000
EFAULT = 14
ALL_PROCS, ALL_THREADS, PROC_THREADS = 0, 1, 2


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def booted(request):
    return emu.boot(arch=request.param)


@pytest.fixture
def kernel(booted):
    """A kernel without processes."""
    yield booted
    for task in list(booted.tasks.by_address.values()):
        if task.pid == task.tgid and task.pid:
            booted.processes.reap(task)


@pytest.fixture(params=["jit", "interp"])
def engine(request):
    return request.param


def attached(kernel, engine, name, **variables):
    """The object after a process has called getpgid(0) with program `name` attached, and that process."""
    loaded = load_one(kernel, PATH, name, engine)
    for variable, value in variables.items():
        loaded.write(variable, value.to_bytes(len(loaded.read(variable)), "little", signed=value < 0))
    started = kernel.exec("getpgid")
    with kernel.attach(loaded.progs[name]):
        ended = kernel.run_user("getpgid", {}, started=started)
    assert ended.exit_code == 0 and not ended.dmesg
    return loaded, started[0]


def number(loaded, name):
    return int.from_bytes(loaded.read(name), "little", signed=True)


def pids(loaded):
    return list(struct.unpack_from(f"<{number(loaded, 'count')}i", loaded.read("pids")))


def test_all_processes_init_task_first(kernel, engine):
    others = [kernel.exec("touch")[0] for _ in range(2)]
    kernel.tasks.create("thread", others[0].mm, leader=others[0])
    loaded, current = attached(kernel, engine, "walk_tasks", flags=ALL_PROCS)
    assert pids(loaded) == [0, *(task.pid for task in others), current.pid]


def test_all_threads_of_each_process_behind_its_leader(kernel, engine):
    other, last = kernel.exec("touch")[0], kernel.exec("touch")[0]
    threads = [kernel.tasks.create("thread", other.mm, leader=other) for _ in range(2)]
    loaded, current = attached(kernel, engine, "walk_tasks", flags=ALL_THREADS)
    assert pids(loaded) == [0, other.pid, *(task.pid for task in threads), last.pid, current.pid]


def test_the_threads_of_one_process(kernel, engine):
    kernel.exec("touch")
    loaded, current = attached(kernel, engine, "walk_tasks", flags=PROC_THREADS)
    assert pids(loaded) == [current.pid]


def test_unknown_flags_give_nothing(kernel, engine):
    assert pids(attached(kernel, engine, "walk_tasks", flags=3)[0]) == []


@pytest.mark.parametrize("profile", ["v7.0", "v7.2"])
def test_the_vmas_of_every_process(kernel, engine, profile):
    kernel = emu.boot(kernel.arch.name, profile)
    others = [kernel.exec("touch")[0] for _ in range(2)]
    like_the_current = kernel.exec("getpgid")[0]
    loaded, _ = attached(kernel, engine, "walk_all_vmas")
    assert number(loaded, "count") == 5
    mapped = [len(list(task.mm.vmas())) for task in (*others, like_the_current, like_the_current)]
    assert number(loaded, "vmas") == sum(mapped) > 4
    for task in others:
        assert kernel.types.view("mm_struct", task.mm.addr).mmap_lock.count.counter == 0


def test_the_memory_of_another_process(kernel, engine):
    other, _ = kernel.exec("touch", "other")
    do_mmap(other.mm, WHERE, 2 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    UserSpace(other.mm, kernel.faults).poke(WHERE, b"elsewhere")
    loaded, current = attached(kernel, engine, "read_other", pid=other.pid, where=WHERE)
    assert number(loaded, "result") == 0 and loaded.read("copied") == b"elsewher"
    assert loaded.read("comm")[:6] == b"other\0" and current.mm is not other.mm
    loaded, _ = attached(kernel, engine, "read_other", pid=other.pid, where=WHERE + PAGE)  # not there yet
    assert number(loaded, "result") == 0 and loaded.read("copied") == bytes(8)
    assert other.mm.tree.pte(WHERE + PAGE), "it was faulted in in the other's page tables"
    assert kernel.types.view("task_struct", other.address).rcu_users.counter == 1


@pytest.mark.parametrize("pid", [0, -1, 4711])
def test_nobody_has_that_pid(kernel, engine, pid):
    loaded, _ = attached(kernel, engine, "read_other", pid=pid)
    assert number(loaded, "missing") == 1 and loaded.read("comm") == bytes(16)


def test_a_kernel_thread_has_no_memory(kernel, engine):
    thread = kernel.tasks.create("kworker", None)
    loaded, _ = attached(kernel, engine, "read_other", pid=thread.pid, where=WHERE)
    assert number(loaded, "result") == -EFAULT and loaded.read("comm")[:8] == b"kworker\0"


def test_a_reference_to_the_parent(kernel, engine):
    parent, _ = kernel.exec("touch")
    loaded = load_one(kernel, PATH, "hold_parent", engine)
    task, image = kernel.exec("getpgid")
    task.view.real_parent = parent.address
    with kernel.attach(loaded.progs["hold_parent"]):
        kernel.run_user("getpgid", {}, started=(task, image))
    assert struct.unpack_from("<i", loaded.read("pids")) == (parent.pid,) and not number(loaded, "missing")
    assert kernel.types.view("task_struct", parent.address).rcu_users.counter == 1


def test_a_task_struct_stays_while_a_reference_is_held(kernel):
    task, _ = kernel.exec("touch")
    call, address, pid = kernel.machine.call, task.address, task.pid
    buffer = kernel.slab.kzalloc(8)

    def there():
        return any(found.addr == address for found in kernel.slab.live())

    assert call("bpf_task_from_pid", pid) == call("bpf_task_acquire", address) == address
    kernel.processes.reap(task)
    assert there() and call("bpf_task_from_pid", pid) == 0
    assert call("bpf_copy_from_user_task", buffer, 8, WHERE, address, 0) == -EFAULT & (1 << 64) - 1, "no memory left"
    assert call("bpf_task_acquire", address) == address, "there still is a reference to copy"
    for _ in range(3):
        assert there()
        call("bpf_task_release", address)
    assert not there()
