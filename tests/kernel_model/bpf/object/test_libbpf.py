"""What libbpf itself made of an object, and the objects that are refused with a reason."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from arch.bpf_isa import BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from kernel_model.bpf.object import BpfObject, load_object
from kernel_model.bpf.object.core_relo import POISON_IMM
from kernel_model.bpf.object.elf import parse
from kernel_model.bpf.object.log_fixup import fixup_verifier_log
from kernel_model.errors import NotModelledError, ObjectFileError
from kernel_model.types import Btf, Kind

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


@pytest.fixture(scope="module")
def core() -> BpfObject:
    target = parse("core_kernel.o", (DATA / "core_kernel.o").read_bytes()).section(".BTF")
    assert target is not None
    return load_object(DATA / "core.bpf.o", Btf(target.data, "core_kernel.o"))


def test_core_relocations_equal_libbpfs(core: BpfObject) -> None:
    """Instructions of every kind of relocation, linkage of hidden functions, words for what is not there."""
    assert core.btf is not None
    funcs = [core.btf.find(name, Kind.FUNC) for name in ("hidden", "visible")]
    out = [f"func {func.name} linkage {func.vlen}" for func in funcs if func is not None]
    for prog in core.progs:
        out.append(f"prog {prog.name} {len(prog.insns)}")
        out += [f"{i.code:02x} {i.dst} {i.src} {i.off} {i.imm}" for i in prog.insns]
    for prog in core.progs:
        if prog.name.startswith("gone"):
            slot = next(i for i, insn in enumerate(prog.insns) if insn.imm == POISON_IMM)
            log = f"start\n{slot}: (85) call unknown#195896080\ninvalid func unknown#195896080\nprocessed 2 insns\n"
            fixed = fixup_verifier_log(log, prog).splitlines()
            assert (fixed[0], fixed[3]) == ("start", "processed 2 insns")
            out += [f"log {prog.name}", *fixed[1:3]]
    assert out == (DATA / "core.libbpf.txt").read_text().splitlines()


def test_the_log_is_left_alone_where_nothing_is_known(core: BpfObject) -> None:
    prog = core.prog("gone")
    pair = "0: (85) call unknown#195896080\ninvalid func unknown#195896080\n"
    for log in ("", "no pair\n", pair.replace("0: (85)", "3: (85)"), pair.split("\n")[1] + "\n", pair + "x\n" * 10):
        assert fixup_verifier_log(log, prog) == log
    assert "<invalid CO-RE relocation>" in fixup_verifier_log(pair + "x\n" * 9, prog)


def test_a_weak_kfunc_that_is_missing_is_named(core: BpfObject) -> None:
    prog = replace(core.prog("gone"), externs=["a_kfunc", "my_kfunc"])
    log = "7: (85) call unknown#2002000001\ninvalid func unknown#2002000001\n"
    assert fixup_verifier_log(log, prog) == (
        "7: <invalid kfunc call>\nkfunc 'my_kfunc' is referenced but wasn't resolved\n")
    assert fixup_verifier_log(log.replace("00001", "00002"), prog) == log.replace("00001", "00002")


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
