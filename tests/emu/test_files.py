"""Files of user programs: what programs see here and on a real kernel, under any schedule; what is left of them.

tests/golden/native-6.18.44.json is what Linux 6.18.44 gave the programs `files`, `openfile` and `named` (their logs:
results of system calls, contents, statuses). Where this machine is a Linux that can run them, that is compared too.
"""

import hashlib
import json
import os
import resource
import struct
import subprocess
from pathlib import Path

import pytest

import emu
import images
from emu.explore.oracles import RandomWalk
from kernel_model.errors import KemuError, KernelErrno, NotModelledError
from kernel_model.fs.files import RLIMIT_NOFILE
from kernel_model.fs.syscalls import FileSyscalls
from kernel_model.kcall import kcall
from kernel_model.mm.filemap import EXT2
from kernel_model.mm.mm_types import FaultFlag, VmFault
from kernel_model.mm.mmap import MAP_SHARED, PROT_WRITE
from kernel_model.mm.shmem import SHMEM
from kernel_model.mm.signals import BUS_ADRERR, SIGBUS, SigInfo
from tests.oracle.this_kernel import unfit

LOG = 256
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "native-6.18.44.json").read_text())
CONTENTS = bytes(i * i % 251 for i in range(10_000))
MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY, "r+": os.O_RDWR}


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    booted = emu.boot(arch=request.param)
    run_threads(booted)  # from now on the stacks of tasks are cached
    return booted


def unpack(log):
    """Without the zeros at its end."""
    values = list(struct.unpack(f"<{LOG}q", log))
    while values and not values[-1]:
        values.pop()
    return values


def digest(data):
    return hashlib.sha256(data).hexdigest()


def resources(kernel):
    return (kernel.init_mm.pages.nr_free, len(kernel.slab.live()), len(kernel.mms.mms), len(kernel.tasks.by_address),
            len(kernel.processes.open_files.by_addr))


def run_threads(kernel, contents=CONTENTS[:1000]):
    kernel.files.create("text", contents)
    started = kernel.exec("filethreads")
    kernel.files.open(started[0], "text", "r")
    kernel.files.unlink("text")  # it is open
    return kernel.run_user("filethreads", read={"errors": 4, "got": 16, "total": 8}, started=started)


# -- the same as a real kernel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, *range(4)])
def test_a_program_sees_what_it_sees_on_linux(kernel, seed):
    if seed is not None:
        kernel.processes.sched.oracle = RandomWalk(seed)
    held = resources(kernel)
    result = kernel.run_user("files", read={"log": 8 * LOG, "logged": 4})
    assert (result.exit_code, result.signal) == (0, None)
    assert unpack(result.values["log"]) == GOLDEN["files"]
    assert int.from_bytes(result.values["logged"], "little") == 168
    assert resources(kernel) == held


@pytest.mark.parametrize("fs", [EXT2, SHMEM], ids=lambda fs: fs.name)
@pytest.mark.parametrize("mode", MODES)
def test_an_open_file_is_the_same_as_on_linux(kernel, mode, fs):
    held = resources(kernel)
    kernel.files.create("data", CONTENTS, fs)
    started = kernel.exec("openfile")
    assert kernel.files.open(started[0], "data", mode) == 3
    result = kernel.run_user("openfile", read={"log": 8 * LOG}, started=started)
    assert (result.exit_code, result.signal) == (0, None)
    golden = GOLDEN[f"openfile {mode}"]
    assert unpack(result.values["log"]) == golden["log"]
    assert digest(kernel.files.read("data")) == golden["sha256"]
    kernel.files.unlink("data")
    assert resources(kernel) == held


def test_files_are_found_by_name_as_on_linux(kernel):
    held = resources(kernel)
    kernel.files.create("given", CONTENTS)
    result = kernel.run_user("named", read={"log": 8 * LOG})
    assert (result.exit_code, result.signal) == (0, None)
    found = {name: digest(kernel.files.read(name)) for name in kernel.files}
    assert {"log": unpack(result.values["log"]), "files": found} == GOLDEN["named"]
    for name in kernel.files:
        kernel.files.unlink(name)
    assert resources(kernel) == held


def native(program, cwd, fd=None):
    """The log of a program that this machine ran, with `fd` as descriptor 3."""
    path = Path(images.__file__).parent / "user" / f"{program}.x86_64"

    def prepare():
        resource.setrlimit(resource.RLIMIT_NOFILE, (RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        if fd is not None:
            os.dup2(fd, 3)

    done = subprocess.run([path], cwd=cwd, stdout=subprocess.PIPE, check=True, timeout=60, close_fds=fd is None,
                          preexec_fn=prepare)
    return unpack(done.stdout)


@pytest.mark.skipif(bool(unfit()), reason=unfit())
def test_this_machine_agrees(tmp_path):
    assert native("files", tmp_path) == GOLDEN["files"]
    (tmp_path / "given").write_bytes(CONTENTS)
    log = native("named", tmp_path)
    found = {path.name: digest(path.read_bytes()) for path in tmp_path.iterdir()}
    assert {"log": log, "files": found} == GOLDEN["named"]
    for mode, flags in MODES.items():
        path = tmp_path / f"data {mode}"
        path.write_bytes(CONTENTS)
        fd = os.open(path, flags)
        try:
            log = native("openfile", tmp_path, fd)
        finally:
            os.close(fd)
        assert {"log": log, "sha256": digest(path.read_bytes())} == GOLDEN[f"openfile {mode}"]


# -- signals, threads, locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [1, 2], ids=["read", "write"])
def test_behind_the_end_is_sigbus_at_that_address(kernel, beyond):
    held = resources(kernel)
    result = kernel.run_user("files", {"beyond": beyond.to_bytes(4, "little")}, read={"beyond_at": 8, "logged": 4})
    at = int.from_bytes(result.values["beyond_at"], "little")
    assert at % 4096 == 123 and result.signal == SigInfo(SIGBUS, BUS_ADRERR, at) and result.exit_code is None
    assert resources(kernel) == held


def watch_faults(kernel, monkeypatch, name):
    """(flags, result) of each fault in VMAs of file `name`, in a list that fills."""
    seen = []
    real = kernel.faults.fault_steps

    def fault_steps(vma, address, flags):
        ret = yield from real(vma, address, flags)
        if vma.name == name:
            seen.append((flags & (FaultFlag.USER | FaultFlag.VMA_LOCK | FaultFlag.TRIED), ret))
        return ret

    monkeypatch.setattr(kernel.faults, "fault_steps", fault_steps)
    return seen


@pytest.mark.parametrize("fs", [EXT2, SHMEM], ids=lambda fs: fs.name)
def test_a_fault_gives_up_the_lock_of_the_vma_to_read_from_the_store(kernel, monkeypatch, fs):
    """do_fault() is good enough with the VMA's lock; filemap_fault() comes again with mmap_lock."""
    seen = watch_faults(kernel, monkeypatch, "data")
    kernel.files.create("data", CONTENTS, fs)
    started = kernel.exec("touch")
    at = kernel.files.map(started[0], "data", pgoff=1)
    vma = kernel.types.view("vm_area_struct", started[0].mm.vma_lookup(at).addr)
    file = kernel.types.view("file", int(vma.vm_file))
    inode = kernel.types.view("inode", int(file.f_inode))
    assert (vma.vm_pgoff, inode.i_size, inode.address) == (1, len(CONTENTS), kernel.files["data"].addr)
    result = kernel.run_user("touch", {"address": at + 8}, read={"value": 8}, started=started)
    assert (result.exit_code, result.values["value"]) == (0, CONTENTS[4104:4112])
    locked = FaultFlag.USER | FaultFlag.VMA_LOCK
    again = [(FaultFlag.USER | FaultFlag.TRIED, VmFault.NOPAGE)]
    wanted = [(locked, VmFault.MAJOR | VmFault.RETRY), *again] if fs is EXT2 else [(locked, VmFault.NOPAGE)]
    assert seen == wanted
    kernel.files.unlink("data")


def test_the_kernel_itself_reads_a_mapped_file(kernel, monkeypatch):
    """copy_from_user() never has a VMA's lock, and gives up mmap_lock."""
    seen = watch_faults(kernel, monkeypatch, "data")
    kernel.files.create("data", CONTENTS)
    started = kernel.exec("openfile")
    kernel.files.open(started[0], "data", "r")
    kernel.run_user("openfile", started=started)
    kernel.files.unlink("data")
    mode = [fault for fault in seen if not fault[0] & FaultFlag.USER]
    assert mode[:4] == [
        (FaultFlag.NONE, VmFault.NOPAGE), (FaultFlag.NONE, VmFault.MAJOR | VmFault.RETRY),
        (FaultFlag.TRIED, VmFault.NOPAGE), (FaultFlag.NONE, VmFault.SIGBUS),
    ]
    assert any(ret == VmFault.SIGBUS and flags == FaultFlag.USER | FaultFlag.VMA_LOCK for flags, ret in seen)


def test_mapping_from_outside_says_what_is_wrong(kernel):
    task, _ = kernel.exec("touch")
    kernel.files.create("data", CONTENTS)
    with pytest.raises(KernelErrno, match="mmap of file 'data'") as caught:
        kernel.files.map(task, "data", PROT_WRITE, MAP_SHARED, mode="r")
    assert caught.value.errno == 13
    with pytest.raises(KernelErrno) as caught:
        kernel.files.map(task, "data", pgoff=3)
    assert caught.value.errno == 22, "nothing to map"
    kernel.processes.reap(task)
    kernel.files.unlink("data")


@pytest.mark.parametrize("seed", range(16))
def test_threads_share_files_under_any_schedule(kernel, seed):
    kernel.processes.sched.oracle = RandomWalk(seed)
    held = resources(kernel)
    result = run_threads(kernel)
    assert (result.exit_code, result.signal, result.values["errors"]) == (0, None, bytes(4))
    first, second = struct.unpack("<2q", result.values["got"])
    assert first and second and first + second == 1000
    assert int.from_bytes(result.values["total"], "little") == sum(CONTENTS[:1000])
    assert resources(kernel) == held and not kernel.rcu.pending


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_every_cpu_runs_the_text_of_this_program(arch):
    """Pages that held another program's text: a CPU on which only its children ran must not remember it."""
    kernel = emu.boot(arch=arch)
    kernel.files.create("given", CONTENTS)
    for program in ("files", "fork", "named", "mappings"):
        kernel.run_user(program)
        assert (run_threads(kernel).exit_code, program) == (0, program)


def test_without_its_lock_a_position_is_not_safe(monkeypatch):
    """What f_pos_lock is for; and that the test above could see it missing."""

    @kcall
    def file_needs_f_pos_lock(self, file):
        return False

    monkeypatch.setattr(FileSyscalls, "file_needs_f_pos_lock", file_needs_f_pos_lock)
    kernel = emu.boot(arch="x86_64")
    read = set()
    for seed in range(10):
        kernel.processes.sched.oracle = RandomWalk(seed)
        read.add(sum(struct.unpack("<2q", run_threads(kernel).values["got"])))
    assert max(read) > 1000


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_lockdep_finds_nothing(arch):
    kernel = emu.boot(arch=arch, lockdep=True)
    kernel.run_user("files")
    run_threads(kernel)
    assert not any(word in kernel.dmesg() for word in ("WARNING", "BUG", "INFO"))
    names = {found.name for found in kernel.lockdep.validator.classes}
    assert names >= {"&sb->s_type->i_mutex_key", "&f->f_pos_lock", "sb_writers", "&mm->mmap_lock"}


def test_a_program_that_is_killed_leaves_no_file(kernel):
    held = resources(kernel)
    kernel.files.create("text", b"x" * 5000)
    task, image = kernel.exec("filethreads")
    kernel.files.open(task, "text")
    kernel.files.unlink("text")
    kernel.processes.start_user(task, image)
    kernel.processes.sched.max_decisions = len(kernel.processes.sched.history.decisions) + 40
    kernel.processes.sched.oracle = RandomWalk(7)
    with pytest.raises(KemuError, match="decisions"):
        kernel.processes.run_to_end(task)
    kernel.processes.sched.max_decisions = 1_000_000
    kernel.processes.reap(task)
    kernel.deferred.run()
    assert resources(kernel)[2:] == held[2:]  # a page that it was copying from, or memory for a VMA, may be lost


# -- the Python side -------------------------------------------------------------------------------------------------


def test_files_have_names_and_modes(kernel):
    task, _ = kernel.exec("openfile")
    kernel.files.create("one", b"1")
    with pytest.raises(KemuError, match="file 'one' exists"):
        kernel.files.create("one")
    with pytest.raises(KemuError, match="no file 'two'; there are: one"):
        kernel.files.open(task, "two")
    with pytest.raises(KemuError, match="mode 'a' is none of r, w, r\\+"):
        kernel.files.open(task, "one", "a")
    opened = 0
    with pytest.raises(KemuError, match="too many open files"):
        while True:
            kernel.files.open(task, "one")
            opened += 1
    assert opened == 1021
    kernel.processes.reap(task)
    with pytest.raises(KemuError, match="has no descriptors"):
        kernel.files.open(task, "one")
    kernel.files.unlink("one")
    assert not kernel.processes.open_files.by_addr


def test_huge_pages_are_not_modelled(kernel):
    with pytest.raises(NotModelledError, match="MFD_HUGETLB"):
        kernel.run_user("files", {"beyond": (3).to_bytes(4, "little")})


def test_directories_are_not_modelled(kernel):
    kernel.files.create("given", CONTENTS)
    with pytest.raises(NotModelledError, match=r"openat\(2\): flags 0o240000"):
        kernel.run_user("named", {"directory": (1).to_bytes(4, "little")})
    for name in kernel.files:
        kernel.files.unlink(name)
