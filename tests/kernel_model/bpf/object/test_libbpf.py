"""What libbpf itself made of an object, and the objects that are refused with a reason."""

import struct
from pathlib import Path

import pytest

from arch.bpf_isa import BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from kernel_model.bpf.object import load_object
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Btf

DATA = Path(__file__).with_name("data")
IMAGES = Path(__file__).parents[4] / "images"


@pytest.fixture(scope="module")
def kernel() -> Btf:
    return Btf((IMAGES / "vmlinux.btf").read_bytes(), "vmlinux.btf")


def test_maps_and_instructions_equal_libbpfs(kernel: Btf) -> None:
    """Static and global subprograms shared by programs, callbacks, every kind of data section."""
    obj = load_object(DATA / "subprogs.bpf.o", kernel)
    out = [f"map {m.name} {int(m.type)} {m.value_size} {m.max_entries} {m.map_flags:x}" for m in obj.maps]
    for prog in obj.progs:
        out.append(f"prog {prog.name} {len(prog.insns)}")
        for insn in prog.insns:
            by_map = insn.code == 0x18 and insn.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE)
            out.append(f"{insn.code:02x} {insn.dst} {insn.src} {insn.off} {0 if by_map else insn.imm}")
    assert out == (DATA / "subprogs.libbpf.txt").read_text().splitlines()


def test_callbacks_and_function_records(kernel: Btf) -> None:
    obj = load_object(DATA / "subprogs.bpf.o", kernel)
    assert obj.btf is not None
    for prog in obj.progs:
        starts = {at: name for name, at in prog.subprogs}
        assert {f.insn_off: obj.btf.type(f.type_id).name for f in prog.func_info} == starts
        refs = [i + x.imm + 1 for i, x in enumerate(prog.insns) if x.code == 0x18 and x.src == BPF_PSEUDO_FUNC]
        assert [starts[at] for at in refs] == ([] if prog.name == "p2" else ["cb"])
        assert [line.insn_off for line in prog.line_info] == sorted(line.insn_off for line in prog.line_info)


@pytest.mark.parametrize(("name", "text"), [("kconfig", "kernel configuration"), ("typeless", "typeless ksyms")])
def test_externs_without_a_model(kernel: Btf, name: str, text: str) -> None:
    with pytest.raises(NotModelledError, match=text):
        load_object(DATA / f"{name}.bpf.o", kernel)


def _section_header(data: bytes, index: int) -> int:
    return struct.unpack_from("<Q", data, 40)[0] + 64 * index


def test_a_section_of_zeroes_is_bounded(kernel: Btf) -> None:
    data = bytearray((DATA / "kconfig.bpf.o").read_bytes())
    struct.pack_into("<I", data, _section_header(data, 2) + 4, 8)  # SHT_NOBITS
    struct.pack_into("<Q", data, _section_header(data, 2) + 32, 1 << 40)
    with pytest.raises(ObjectFileError, match=r"zero\.bpf\.o: section .*: 1099511627776 bytes"):
        load_object(bytes(data), kernel, "zero.bpf.o")


def test_relocations_lie_on_instructions(kernel: Btf) -> None:
    data = bytearray((DATA / "typeless.bpf.o").read_bytes())
    count = struct.unpack_from("<H", data, 60)[0]
    for at in (_section_header(data, i) for i in range(count)):
        kind, offset, target = (struct.unpack_from(f, data, at + o)[0] for f, o in (("<I", 4), ("<Q", 24), ("<I", 44)))
        executable = struct.unpack_from("<Q", data, _section_header(data, target) + 8)[0] & 4
        if kind == 9 and executable:
            struct.pack_into("<Q", data, offset, struct.unpack_from("<Q", data, offset)[0] + 1)
    with pytest.raises(ObjectFileError, match="section socket: relocation at 1: not an instruction"):
        load_object(bytes(data), kernel, "odd.bpf.o")
