"""Variables of a program that live in its arena: where the loader puts them, and that all see the same memory."""

from dataclasses import replace

import pytest

import emu
from kernel_model.bpf.object import arena_data, load_object, opened
from kernel_model.bpf.program import BPF_F_SEGV_ON_FAULT, MapSpec
from kernel_model.errors import KernelErrno, ObjectFileError

OBJECT = "images/bpf/arena_globals.bpf.o"
START, PAGES = 3 << 44, 16


@pytest.fixture
def path(request):
    return request.config.rootpath / OBJECT


@pytest.mark.parametrize("engine", ["jit", "interp"])
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize(("profile", "first"), [("v6.18", 0), ("v7.0", PAGES - 2), ("v7.2", PAGES - 2)])
def test_globals_are_there_before_the_program_runs(path, arch, profile, first, engine):
    kernel = emu.boot(arch, profile)
    loaded = kernel.load(path, engine)
    arena = loaded.map("arena")
    users = [owner for owner in kernel.init_mm.pages.usage() if "libbpf" in owner]
    assert not users, "the loader's mapping is gone"
    assert loaded.read_longs("counter") == [40] and loaded.read_longs("table")[-1] == 99
    assert loaded.address("table") == arena.kern_vm_start + first * 4096
    result = kernel.run(loaded.prog("use"))
    assert (result.error, result.retval, result.stderr, result.dmesg) == (0, 0, "", "")
    head = START + (first + 1) * 4096 + 8
    assert loaded.read_longs("res")[:5] == [11 + 22 + 99, 42, 7, head, 42]
    assert loaded.read_longs("counter") == [42] and loaded.read_longs("head") == [7, head]
    touched = kernel.touch(START + (first + 1) * 4096, arena)
    assert int.from_bytes(touched.values["value"], "little") == 42, "another process sees them, too"
    kernel.run(loaded.prog("allocate"))
    free = 0 if first else 2
    assert loaded.read_longs("res")[5:7] == [START + free * 4096, 0], "the rest of the arena can be allocated"
    kernel.free(loaded)
    assert not [owner for owner in kernel.init_mm.pages.usage() if "arena" in owner]


def _with(monkeypatch, change):
    original = opened.maps.defined_maps
    monkeypatch.setattr(opened.maps, "defined_maps", lambda elf, btf: change(original(elf, btf)))


@pytest.mark.parametrize(
    ("change", "cause"),
    [(lambda maps: [(n, replace(m, max_entries=1)) for n, m in maps], r"map size \(4096\) is too small .* 4120"),
     (lambda maps: [], "the ARENA map should be explicitly declared"),
     (lambda maps: maps + [("b", replace(maps[0][1], name="b"))], "only single ARENA map is supported")],
)
def test_objects_that_libbpf_refuses(path, monkeypatch, change, cause):
    kernel = emu.boot()
    _with(monkeypatch, change)
    with pytest.raises(ObjectFileError, match=rf"section \.addr_space\.1: .*{cause}"):
        load_object(path, kernel.types.btf)


def test_an_arena_whose_user_faults_are_signals_cannot_be_filled(path, monkeypatch):
    kernel = emu.boot()
    _with(monkeypatch, lambda maps: [(n, replace(m, map_flags=m.map_flags | BPF_F_SEGV_ON_FAULT)) for n, m in maps])
    with pytest.raises(KernelErrno, match="user write at 0x30000000e000: SIGSEGV"):
        kernel.load(path)


def test_an_arena_without_globals_gets_no_page():
    kernel = emu.boot()
    arena = kernel.bpf.create_map(MapSpec("a", 33, 0, 0, 4, 1 << 10, START))
    arena_data.populate_arena(arena, kernel.faults)
    assert kernel.types.view("bpf_arena", arena.address).nr_pages == 0


@pytest.mark.parametrize(("profile", "cause"), [
    ("v6.18", r"direct value offset of 536870912 is not allowed"),
    ("v7.2", r"invalid access to map value pointer, value_size=0 off=536870912"),
])
def test_offsets_outside_the_arena(path, profile, cause):
    kernel = emu.boot(profile=profile)
    obj = load_object(path, kernel.types.btf, full_range=kernel.profile.ldimm64_full_range)
    spec = obj.prog("use")
    at = next(i for i, insn in enumerate(spec.insns) if insn.is_ld_imm64 and insn.src == 2 and insn.imm == 0)
    spec.insns[at + 1].imm = 1 << 29
    with pytest.raises(KernelErrno, match=cause):
        kernel.load_prog(spec, obj, kernel.create_maps(obj))
