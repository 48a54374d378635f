"""The arena fault, end to end: kernel text in front of a BPF program touches arena memory that is not there."""

import re

import pytest

import emu
from kernel_model.mm.signals import SEGV_MAPERR, SIGSEGV

OBJECT = "images/bpf/arena_oob.bpf.o"
OTHER = "images/bpf/arena_other.bpf.o"
USER = 1 << 44  # map_extra of the arena
EFAULT = (1 << 64) - 14

BELOW = {
    "x86_64": ["__sys_bpf", "__x64_sys_bpf", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"],
    "arm64": ["__sys_bpf", "__arm64_sys_bpf", "do_el0_svc", "el0_svc", "el0t_64_sync_handler", "el0t_64_sync"],
}
EXCEPTION = {
    "x86_64": ["kernelmode_fixup_or_oops.constprop.0", "exc_page_fault", "asm_exc_page_fault"],
    "arm64": ["__do_kernel_fault", "do_bad_area", "do_translation_fault", "do_mem_abort", "el1_abort",
              "el1h_64_sync_handler", "el1h_64_sync"],
}  # fmt: skip


@pytest.fixture(params=["x86_64", "arm64"])
def arch(request):
    return request.param


@pytest.fixture
def load(arch, request):
    def make(profile="v7.2", path=OBJECT, kernel=None):
        kernel = kernel or emu.boot(arch, profile)
        return kernel, kernel.load(request.config.rootpath / path)

    return make


def values(loaded, count=2):
    return [value & (1 << 64) - 1 for value in loaded.read_longs("res")[:count]]


def errors(text):
    return re.findall(r"^ERROR: Arena (READ|WRITE) access at unmapped address (0x[0-9a-f]+)$", text, re.M)


def frames(text):
    """Function names of the first stack dump."""
    dump = text.split("Call trace:\n")[1].split("\n\n")[0]
    return [re.sub(r"\+0x.*", "", line) for line in dump.splitlines() if not line.startswith("  ")]


def test_an_allocated_page_is_one_memory_for_kernel_and_program(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("inside"))
    assert (result.retval, result.stderr, result.dmesg) == (0, "", "")
    assert values(loaded) == [0x1122334455667788, 42]


def test_a_read_of_an_unallocated_page_is_recovered_and_reported_once(load, arch):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("unallocated_read"))
    assert (result.error, result.retval, result.oops, result.dmesg) == (0, 0, False, "")
    assert values(loaded) == [0, 0]
    assert errors(result.stderr) == [("READ", hex(USER + 50 * 4096))]  # page aligned; the second read hits scratch
    names = frames(result.stderr)
    assert names[:2] == ["bpf_stream_stage_dump_stack", "bpf_prog_report_arena_violation"]
    assert names[2] == "bpf_arena_handle_page_fault"
    middle = names.index("bpf_kfunc_arena_read")
    assert names[middle - len(EXCEPTION[arch]) : middle] == EXCEPTION[arch]
    assert re.fullmatch(r"bpf_prog_[0-9a-f]{16}_unallocated_read", names[middle + 1])
    assert names[middle + 2 :] == ["bpf_prog_test_run_syscall", *BELOW[arch]]
    assert "  res[0] = bpf_kfunc_arena_read(&arena, page(50) + 0x18); @ arena_oob.bpf.c:" in result.stderr
    assert kernel.run(loaded.prog("unallocated_read")).stderr == ""


def test_writes_land_in_the_one_scratch_page(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("unallocated_write"))
    assert errors(result.stderr) == [("WRITE", hex(USER + 60 * 4096)), ("READ", hex(USER + 61 * 4096))]
    assert values(loaded) == [0x5C7A7C4, 0x5C7A7C4]


def test_a_subprogram_reports_to_its_main_program(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("from_subprog"))
    assert errors(result.stderr) == [("READ", hex(USER + 70 * 4096))]
    names = [re.sub(r"[0-9a-f]{16}", "TAG", name) for name in frames(result.stderr)]
    at = names.index("bpf_kfunc_arena_read")
    assert names[at + 1 : at + 3] == ["bpf_prog_TAG_inner", "bpf_prog_TAG_from_subprog"]


def test_the_upper_half_guard_is_recovered(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("upper_guard"))
    assert errors(result.stderr) == [("READ", hex(USER + (1 << 32))), ("WRITE", hex(USER + (1 << 32) + 0x7000))]
    assert values(loaded) == [0, 1] and not result.oops


@pytest.mark.parametrize("prog", ["below", "beyond"])
def test_outside_window_and_upper_guard_the_kernel_dies(load, arch, prog):
    kernel, loaded = load()
    result = kernel.run(loaded.prog(prog))
    assert result.oops and result.stderr == ""
    arena = loaded.map("arena")
    address = arena.kern_vm_start - 8 if prog == "below" else arena.kern_vm_start + (1 << 32) + 0x8000
    first = {
        "x86_64": f"BUG: unable to handle page fault for address: {address:016x}",
        "arm64": f"Unable to handle kernel paging request at virtual address {address:016x}",
    }
    assert result.dmesg.splitlines()[0] == first[arch]
    assert "bpf_kfunc_arena_read_off+0x" in result.dmesg and "---[ end trace 0000000000000000 ]---" in result.dmesg


def test_recovery_goes_by_who_is_on_the_stack(load):
    kernel, loaded = load()
    _, other = load(path=OTHER, kernel=kernel)
    kernel.run(other.prog("where"))
    start = int.from_bytes(other.read("kern_vm_start"), "little")
    assert start == other.map("other").kern_vm_start
    loaded.write("foreign_kaddr", (start + 0x3000).to_bytes(8, "little"))
    result = kernel.run(loaded.prog("foreign"))
    assert result.oops and f"{start + 0x3000:016x}" in result.dmesg
    own = kernel.run(other.prog("read_own"))
    assert not own.oops and errors(own.stderr) == [("READ", hex((2 << 44) + 0x3000))]


def test_a_fault_safe_read_fails_and_installs_nothing(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("nofault"))
    assert (result.stderr, result.dmesg, result.oops) == ("", "", False)
    assert values(loaded, 1) == [EFAULT]
    assert kernel.init_mm.tree.pte(loaded.map("arena").kernel_address(USER + 80 * 4096)) == 0


@pytest.mark.parametrize("profile", ["v6.18", "v7.2"])
def test_instructions_of_the_program_take_its_exception_table(load, profile):
    kernel, loaded = load(profile)
    for _ in range(2):  # nothing is installed, so every run reports
        result = kernel.run(loaded.prog("own_access"))
        at = USER + 90 * 4096
        assert errors(result.stderr) == [("READ", hex(at + 8)), ("WRITE", hex(at + 16))]
        assert values(loaded) == [0, 1]
        assert "ex_handler_bpf" in frames(result.stderr)
    assert kernel.init_mm.tree.pte(loaded.map("arena").kernel_address(at)) == 0


def test_without_the_scratch_page_the_same_access_oopses(load, arch):
    kernel, loaded = load("v6.18")
    result = kernel.run(loaded.prog("unallocated_read"))
    address = loaded.map("arena").kernel_address(USER + 50 * 4096) + 0x18
    assert result.oops and result.stderr == "" and f"{address:016x}" in result.dmesg.splitlines()[0]
    kind = {"x86_64": r"Oops: Oops: 0000 \[#1\] SMP", "arm64": r"Internal error: Oops: 000000009600000[4-7] \[#1\]"}
    assert re.search(kind[arch], result.dmesg)


@pytest.mark.parametrize(("profile", "allocated"), [("v7.2", 1), ("commit:dc11a4dba246", 0)])
def test_allocation_over_a_scratched_page(load, profile, allocated):
    kernel, loaded = load(profile)
    result = kernel.run(loaded.prog("allocate_scratched"))
    assert errors(result.stderr) == [("WRITE", hex(USER + 40 * 4096))]
    assert values(loaded) == [allocated, 0]
    kernel.run(loaded.prog("allocate_scratched"))
    assert values(loaded) == [0, 0]  # taken by now, or refused for ever


def test_freeing_over_scratch_makes_the_next_access_fault_again(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("free_scratched"))
    assert errors(result.stderr) == [("READ", hex(USER + n * 4096)) for n in (30, 31, 30)]
    assert values(loaded, 1) == [1]


def test_reserved_pages_belong_to_nobody(load):
    kernel, loaded = load()
    kernel.run(loaded.prog("reserve"))
    minus_ebusy = (1 << 64) - 16
    assert values(loaded, 4) == [0, minus_ebusy, 0, 1]


def test_user_space_gets_sigsegv_on_a_scratched_page_only(load):
    kernel, loaded = load()
    arena = loaded.map("arena")
    assert errors(kernel.run(loaded.prog("scratch_for_user")).stderr)
    ended = kernel.touch(USER + 20 * 4096 + 8, arena)
    assert (ended.signal.signo, ended.signal.code, ended.signal.addr) == (SIGSEGV, SEGV_MAPERR, USER + 20 * 4096 + 8)
    ended = kernel.touch(USER + 21 * 4096, arena, write=True)
    assert ended.signal is None and ended.exit_code == 0
    pfn = kernel.init_mm.tree.pte(arena.kernel_address(USER + 21 * 4096))
    assert pfn, "user space populates arena pages, for the kernel too"
    free = arena.range_trees.is_range_tree_set
    assert free(arena.rt, 22, 1) == 0 and free(arena.rt, 21, 1) != 0, "nobody else may allocate the page"


def test_every_page_comes_back_and_none_twice(load):
    kernel, loaded = load()
    arena = loaded.map("arena")
    for name in ("inside", "unallocated_read", "unallocated_write", "upper_guard", "allocate_scratched",
                 "free_scratched", "reserve", "scratch_for_user", "many_faults"):  # fmt: skip
        assert not kernel.run(loaded.prog(name)).oops
    kernel.touch(USER + 5 * 4096, arena, write=True)
    held = {owner: n for owner, n in kernel.init_mm.pages.usage().items() if "arena" in owner}
    assert held.pop("scratch page of arena arena") == 1
    assert sum(held.values()) == 3  # allocate_scratched, reserve, touch
    free = kernel.init_mm.pages.nr_free
    kernel.free(loaded)
    assert not [owner for owner in kernel.init_mm.pages.usage() if "arena" in owner]
    assert kernel.init_mm.pages.nr_free >= free + 4


def test_64_faults_give_64_reports(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("many_faults"))
    assert [address for _, address in errors(result.stderr)] == [hex(USER + (200 + i) * 4096) for i in range(64)]
    assert values(loaded, 1) == [64]


def test_the_other_cpu_does_the_same(load):
    kernel, loaded = load()
    result = kernel.run(loaded.prog("unallocated_read"), cpu=1)
    assert "\nCPU: 1 UID: 0 PID: " in result.stderr and not result.oops
    assert kernel.run(loaded.prog("unallocated_read"), cpu=0).stderr == ""


def test_a_second_kernel_prints_the_same_bytes(load):
    texts = []
    for _ in range(2):
        kernel, loaded = load()
        texts.append([kernel.run(loaded.prog(p)).stderr for p in ("unallocated_write", "from_subprog", "own_access")])
        texts[-1].append(kernel.run(loaded.prog("below")).dmesg)
    assert texts[0] == texts[1]
