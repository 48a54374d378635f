"""The guest images: reproducible, described, and free of what kernel text must not contain."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import capstone
import pytest
from elftools.elf.elffile import ELFFile

from images import build
from kernel_model.types import Btf, Kind

ARCHES = ("x86_64", "arm64")
VECTOR_REGISTER = {
    "x86_64": re.compile(r"\b([xyz]?mm\d+|st\(?\d?\)?|k[0-7])\b"),
    "arm64": re.compile(r"\b[qdshbv]\d+\b"),
}


@cache
def image(arch: str) -> ELFFile:
    return ELFFile((build.ROOT / f"vmlinux.{arch}").open("rb"))


def section(arch: str, name: str) -> bytes:
    found = image(arch).get_section_by_name(name)
    assert found is not None, f"vmlinux.{arch} has no {name}"
    return found.data()


def functions(arch: str) -> list[tuple[str, int, int, str]]:
    """(name, address, size, section name) of every function symbol."""
    elf = image(arch)
    return [
        (s.name, s["st_value"], s["st_size"], elf.get_section(s["st_shndx"]).name)
        for s in elf.get_section_by_name(".symtab").iter_symbols()
        if s["st_info"]["type"] == "STT_FUNC"
    ]


def kcalls(arch: str) -> dict[str, str]:
    elf = image(arch)
    table = elf.get_section_by_name(".symtab")
    start, end = (table.get_symbol_by_name(f"__kcall_names_{edge}")[0]["st_value"] for edge in ("start", "end"))
    holder = next(s for s in elf.iter_sections() if s["sh_addr"] <= start < s["sh_addr"] + s["sh_size"])
    text = holder.data()[start - holder["sh_addr"] : end - holder["sh_addr"]].rstrip(b"\0").decode()
    return dict(entry.split(":") for entry in text.split("\0"))  # type: ignore[misc]


def test_committed_files_are_what_their_sources_build_to() -> None:
    assert build.check() == 0


@pytest.mark.parametrize("arch", ARCHES)
def test_every_function_has_a_size_and_lies_in_text(arch: str) -> None:
    found = functions(arch)
    assert len(found) > 100
    assert [name for name, _, size, _ in found if size == 0] == []
    assert [name for name, _, _, where in found if "text" not in where] == []


@pytest.mark.parametrize("arch", ARCHES)
def test_functions_do_not_overlap(arch: str) -> None:
    """But for a label with a size of its own inside the function that Linux puts it in."""
    inside = {"entry_SYSCALL_64_after_hwframe"}
    spans = sorted((start, start + size, name) for name, start, size, _ in functions(arch) if name not in inside)
    clashes = [(a[2], b[2]) for a, b in zip(spans, spans[1:], strict=False) if a[1] > b[0]]
    assert clashes == []


@pytest.mark.parametrize(("arch", "name", "file"), [
    ("x86_64", "exc_page_fault", "fault.c"), ("arm64", "do_mem_abort", "fault.c"),
    ("x86_64", "asm_exc_page_fault", "entry.S"), ("arm64", "el1h_64_sync", "entry.S"),
    ("x86_64", "bpf_arena_handle_page_fault", "arena.c"), ("arm64", "g_read", "golden.c"),
])
def test_dwarf_finds_file_and_line(arch: str, name: str, file: str) -> None:
    address = next(start for n, start, _, _ in functions(arch) if n == name)
    for unit in image(arch).get_dwarf_info().iter_CUs():
        program = image(arch).get_dwarf_info().line_program_for_CU(unit)
        for entry in program.get_entries():
            if entry.state is not None and entry.state.address == address and not entry.state.end_sequence:
                source = program["file_entry"][entry.state.file - 1].name.decode()
                assert Path(source).name == file
                assert entry.state.line > 0
                return
    pytest.fail(f"no line of {name}")


@pytest.mark.parametrize("arch", ARCHES)
def test_kernel_text_uses_no_vector_registers(arch: str) -> None:
    engine = {
        "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
        "arm64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    }[arch]
    disassembler = capstone.Cs(*engine)
    for name, start, size, where in functions(arch):
        if name in ("fpsimd_save_state", "fpsimd_load_state"):  # they are there for those of user mode
            continue
        holder = image(arch).get_section_by_name(where)
        code = holder.data()[start - holder["sh_addr"] :][:size]
        for insn in disassembler.disasm(code, start):
            assert not VECTOR_REGISTER[arch].search(insn.op_str), f"{name}: {insn.mnemonic} {insn.op_str}"


@pytest.mark.parametrize("arch", ARCHES)
def test_btf_has_a_prototype_of_every_kcall(arch: str) -> None:
    btf = Btf(section(arch, ".BTF"), f"vmlinux.{arch}")
    calls = kcalls(arch)
    assert "__handle_mm_fault" in calls
    assert {name: build.signature(btf, name) for name in calls} == calls


@pytest.mark.parametrize("arch", ARCHES)
def test_btf_describes_structures_and_kfuncs(arch: str) -> None:
    btf = Btf(section(arch, ".BTF"), f"vmlinux.{arch}")
    arena = btf.find("bpf_arena", Kind.STRUCT)
    assert arena is not None
    assert [m.name for m in arena.members][:4] == ["map", "user_vm_start", "user_vm_end", "kern_vm"]
    kfunc = btf.find("bpf_arena_alloc_pages", Kind.FUNC)
    assert kfunc is not None
    params = [name for name, _ in btf.type(kfunc.type_id).params]
    assert params == ["p__map", "addr__ign", "page_cnt", "node_id", "flags"]
    tagged = {btf.type(tag.type_id).name for tag in btf.types() if tag.kind is Kind.DECL_TAG}
    assert {"bpf_arena_alloc_pages", "bpf_kfunc_arena_read", "bpf_stream_vprintk"} <= tagged


def test_both_architectures_call_the_same_kernel_outside() -> None:
    """Where the names differ, it is for what only one architecture has."""
    shared = set(kcalls("x86_64")) & set(kcalls("arm64"))
    assert {"__handle_mm_fault", "bpf_prog_ksym_find", "range_tree_find", "bpf_stream_stage_printk", "die"} <= shared


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("program", ["prog_run", "touch", "writer"])
def test_user_programs_start_in_user_space(arch: str, program: str) -> None:
    with (build.ROOT / "user" / f"{program}.{arch}").open("rb") as stream:
        elf = ELFFile(stream)
        segments = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        assert elf["e_entry"] == 0x400040
        assert [s["p_flags"] & 7 for s in segments] == [5, 6]
        assert all(s["p_vaddr"] < 0x800000 for s in segments)
