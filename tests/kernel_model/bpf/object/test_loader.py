"""Objects by libbpf's conventions, and what becomes of broken ones."""

import random
from pathlib import Path

import pytest

from arch.bpf_isa import BPF_PSEUDO_CALL, BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from kernel_model.bpf.object import load_object
from kernel_model.bpf.object.secdef import find_sec_def
from kernel_model.bpf.program import BPF_F_MMAPABLE, MapType, ProgType
from kernel_model.errors import KemuError, ObjectFileError
from kernel_model.types import Btf, Kind

IMAGES = Path(__file__).parents[4] / "images"
OBJECTS = sorted((IMAGES / "bpf").glob("*.bpf.o"))


@pytest.fixture(scope="module")
def kernel() -> Btf:
    return Btf((IMAGES / "vmlinux.btf").read_bytes(), "vmlinux.btf")


def test_golden_object(kernel: Btf) -> None:
    obj = load_object(IMAGES / "bpf" / "arena_golden.bpf.o", kernel)
    assert [p.name for p in obj.progs] == [
        "alloc_write_read", "use_after_free", "read_unmapped", "write_unmapped", "beyond_max_entries",
        "negative_offset", "narrow", "atomics", "atomics_unmapped", "null_deref", "user_addr", "alloc_all",
        "alloc_fixed", "many_faults", "subprog_fault", "stream_fmt", "may_goto_spin",
    ]
    assert all(p.type is ProgType.SYSCALL and p.sleepable and p.license == "GPL" for p in obj.progs)
    arena, bss = obj.maps[0], obj.maps[1]
    assert (arena.name, arena.type, arena.max_entries, arena.map_flags, arena.map_extra) == (
        "arena", MapType.ARENA, 4, BPF_F_MMAPABLE, 1 << 44)
    assert (bss.name, bss.value_size, bss.key_size) == ("arena_go.bss", 128, 4)
    assert obj.variables["res"].size == 128
    sub = obj.prog("subprog_fault")
    assert [name for name, _ in sub.subprogs] == ["subprog_fault", "sub"]
    start = sub.subprogs[1][1]
    calls = [i for i, insn in enumerate(sub.insns) if insn.code == 0x85 and insn.src == BPF_PSEUDO_CALL]
    assert [i + sub.insns[i].imm + 1 for i in calls] == [start]
    assert any(line.insn_off >= start and line.line_num == 32 for line in sub.line_info)
    kfuncs = {kernel.type(i.imm).name for i in sub.insns if i.code == 0x85 and i.src == BPF_PSEUDO_KFUNC_CALL}
    assert kfuncs == {"bpf_arena_alloc_pages"} and kernel.find("bpf_arena_alloc_pages", Kind.FUNC)
    refs = {(i.src, i.imm) for i in obj.prog("read_unmapped").insns if i.code == 0x18}
    assert {(BPF_PSEUDO_MAP_FD, 0), (BPF_PSEUDO_MAP_VALUE, 1)} <= refs


def test_unknown_kfunc_is_named(kernel: Btf) -> None:
    data = (IMAGES / "bpf" / "arena_other.bpf.o").read_bytes().replace(b"bpf_kfunc_read_kern", b"bpf_kfunc_read_kerX")
    with pytest.raises(ObjectFileError, match="extern .func ksym. 'bpf_kfunc_read_kerX': not found in kernel"):
        load_object(data, kernel, "other.bpf.o")


@pytest.mark.parametrize(
    ("section", "kind", "sleepable", "target"),
    [("syscall", ProgType.SYSCALL, True, None), ("fentry.s/do_x", ProgType.TRACING, True, "do_x"),
     ("tc", ProgType.SCHED_CLS, False, None), ("lsm/file_open", ProgType.LSM, False, "file_open"),
     ("raw_tp/sys_enter", ProgType.RAW_TRACEPOINT, False, "sys_enter"), ("xdp", ProgType.XDP, False, None)],
)
def test_section_names(section: str, kind: ProgType, sleepable: bool, target: str | None) -> None:
    found = find_sec_def(section)
    assert found is not None
    assert (found[0].type, found[0].sleepable, found[1]) == (kind, sleepable, target)
    assert find_sec_def("nothing") is None


def test_missing_and_empty_files(kernel: Btf, tmp_path: Path) -> None:
    with pytest.raises(ObjectFileError, match="No such file"):
        load_object(tmp_path / "none.o", kernel)
    with pytest.raises(ObjectFileError, match="ELF header: truncated"):
        load_object(b"", kernel, "empty.o")
    with pytest.raises(ObjectFileError, match="not an ELF file"):
        load_object(bytes(100), kernel, "zero.o")


@pytest.mark.parametrize("path", OBJECTS, ids=lambda p: p.name)
def test_truncations_and_mutations_never_escape(path: Path, kernel: Btf) -> None:
    good, rng = path.read_bytes(), random.Random(path.name)
    refused = 0
    for round_ in range(120):
        data = bytearray(good)
        if round_ % 3 == 0:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.randrange(1, 12)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            load_object(bytes(data), kernel, "fuzz.bpf.o")
        except KemuError as error:
            refused += 1
            assert "fuzz.bpf.o" in str(error) or "CO-RE" in str(error)
    assert refused > 30
