"""Builds the guest code: kernel images, BPF objects. `python -m images.build [--check]`.

The compiler is the pinned `ziglang` wheel (clang), so that every machine makes the same bytes; `--check` builds into
a temporary directory and compares with the committed files. Functions that the kernel text calls and nobody defines
become kcall stubs: their names and prototypes go into the image's .kcall_names. DWARF of all objects gives .BTF.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

from kernel_model.types import Btf, Kind, dwarf

ROOT = Path(__file__).resolve().parent
KERNEL = ROOT / "kernel"
COMMON = ["-O2", "-g", "-gdwarf-4", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
          "-ffreestanding", "-fno-builtin", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer",
          "-fno-stack-protector", "-fno-pic", "-fno-pie", "-fno-sanitize=all", "-fno-unwind-tables",
          "-fno-asynchronous-unwind-tables", "-fno-strict-aliasing", "-fno-delete-null-pointer-checks",
          "-fno-jump-tables", "-mllvm", "-enable-shrink-wrap=false", "-fno-merge-all-constants",
          "-fno-eliminate-unused-debug-types"]
# arm64 kernels give leaf functions no frame, and the traces of this module are compared with real ones
PER_FILE = {("arm64", "modules/golden.c"): ["-momit-leaf-frame-pointer"]}
TARGETS = {
    "x86_64": ["-target", "x86_64-freestanding-none", "-mcmodel=kernel", "-mno-red-zone", "-mno-sse", "-mno-sse2",
               "-mno-mmx", "-mstack-alignment=8"],
    "arm64": ["-target", "aarch64-freestanding-none", "-mcpu=generic+lse+pan-neon-fp_armv8"],
}
EMULATION = {"x86_64": "elf_x86_64", "arm64": "aarch64elf"}
# the last instruction is where guest functions return to that a kcall calls: a stack walk finds the kcall's name there
STUB = {"x86_64": "\tmovl ${index}, %eax\n\tjmp kcall_entry\n\tnop\n\tnop",
        "arm64": "\tmov x16, #{index}\n\tb kcall_entry\n\tnop\n\tnop"}
BPF_FLAGS = ["-target", "bpfel-freestanding", "-mcpu=v4", "-O2", "-g", "-std=gnu11", "-fno-sanitize=all",
             "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Wall", "-Wno-unused-function"]


def zig(*args: str | Path, cwd: Path = ROOT) -> None:
    """Run the pinned toolchain; its messages go to the terminal, a failure ends the build."""
    env = dict(os.environ, SOURCE_DATE_EPOCH="0")
    subprocess.run([sys.executable, "-m", "ziglang", *map(str, args)], check=True, cwd=cwd, env=env)


def compile_kernel(arch: str, out: Path) -> list[Path]:
    """Every C and assembly file of one architecture -> objects in `out`, in a fixed order."""
    sources = [p for p in sorted(KERNEL.rglob("*.[cS]")) if KERNEL / "arch" not in p.parents or arch in p.parts]
    includes = ["-I", "kernel/include", "-I", f"kernel/arch/{arch}/include", "-I", f"kernel/arch/{arch}"]
    mapping = [f"-ffile-prefix-map={ROOT}=images", "-fdebug-compilation-dir=images"]
    objects = []
    for source in sources:
        name = str(source.relative_to(KERNEL).with_suffix(".o")).replace("/", "_")
        target = out / (source.stem + ".o" if source.parent.name == "modules" else name)
        extra = PER_FILE.get((arch, str(source.relative_to(KERNEL))), [])
        zig("cc", *TARGETS[arch], *COMMON, *extra, *mapping, *includes, "-c", source.relative_to(ROOT), "-o", target)
        objects.append(target)
    return objects


def undefined(objects: list[Path]) -> list[str]:
    """Symbols that some object needs and none defines, sorted; the linker script's own are left out."""
    needed: set[str] = set()
    defined: set[str] = set()
    for path in objects:
        with path.open("rb") as stream:
            table = ELFFile(stream).get_section_by_name(".symtab")
            for symbol in table.iter_symbols():
                if symbol.name and symbol["st_info"]["bind"] != "STB_LOCAL":
                    (needed if symbol["st_shndx"] == "SHN_UNDEF" else defined).add(symbol.name)
    script = {"__start___ex_table", "__stop___ex_table", "__start___bug_table", "__stop___bug_table",
              "__start_mcount_loc", "__stop_mcount_loc",
              "__per_cpu_start", "__per_cpu_end", "_text", "_etext", "_end"}
    return sorted(needed - defined - script)


def kfuncs() -> list[str]:
    """Functions marked __bpf_kfunc; pahole gives them a declaration tag in a kernel's BTF."""
    sources = [*sorted((KERNEL / "bpf").glob("*.c")), *sorted((KERNEL / "modules").glob("*.c"))]
    return [name for path in sources for name in re.findall(r"^__bpf_kfunc\b[^;(]*?(\w+)\(", path.read_text(), re.M)]


def signature(btf: Btf, name: str) -> str | None:
    """Result and arguments of a function as one letter each (see `_letter`), None where BTF does not know it."""
    func = btf.find(name, Kind.FUNC)
    if func is None:
        return None
    proto = btf.type(func.type_id)
    return _letter(btf, proto.type_id) + "".join(_letter(btf, type_id) for _, type_id in proto.params)


def _letter(btf: Btf, type_id: int) -> str:
    """v void, b bool, p pointer or u64, l s64, u u32, i s32, h u16, s s16, c u8, a s8."""
    kind = btf.resolve(type_id)
    if kind.id == 0:
        return "v"
    if kind.kind is not Kind.INT:
        return "p" if kind.kind is Kind.PTR else "u"
    return "b" if kind.int_bool else {8: "pl", 4: "ui", 2: "hs", 1: "ca"}[kind.size][kind.int_signed]


def stubs(arch: str, names: list[str], btf: Btf) -> str:
    """Assembly of the kcall stubs, of the table that names them and of the .BTF section."""
    signatures = {name: found for name in names if (found := signature(btf, name)) is not None}
    missing = [name for name in names if name not in signatures]
    if missing:
        raise SystemExit(f"images.build: no prototype of {', '.join(missing)}")
    long = [name for name in names if len(signatures[name]) > 7]
    if long:
        raise SystemExit(f"images.build: more than six arguments: {', '.join(long)}")
    out = ["/* made by images/build.py */", ".text"]
    kind = "@function" if arch == "x86_64" else "%function"
    for index, name in enumerate(names):
        out += [".balign 16", f".globl {name}", f".type {name}, {kind}", f"{name}:",
                STUB[arch].format(index=index), f".size {name}, . - {name}"]
    out.append('.section .kcall_names, "a"')
    out += [f'.asciz "{name}:{signatures[name]}"' for name in names]
    out += ['.section .BTF, "a"', ".balign 8", ".globl __start_BTF", "__start_BTF:", '.incbin "vmlinux.btf"',
            ".globl __stop_BTF", "__stop_BTF:"]
    return "\n".join(out) + "\n"


def build_kernel(arch: str, out: Path) -> None:
    """vmlinux.<arch> into `out`."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        objects = compile_kernel(arch, work)
        data = dwarf.encode(dwarf.collect(objects), {name: ("bpf_kfunc",) for name in kfuncs()})
        (work / "vmlinux.btf").write_bytes(data)
        source = work / "kcall_stubs.S"
        source.write_text(stubs(arch, undefined(objects), Btf(data, f"vmlinux.{arch}")))
        stub_object = work / "kcall_stubs.o"
        zig("cc", *TARGETS[arch], "-g0", "-c", source.name, "-o", stub_object, cwd=work)
        zig("ld.lld", "-m", EMULATION[arch], "-T", KERNEL / "arch" / arch / "kernel.ld", "--build-id=none",
            "-z", "max-page-size=4096", "--no-relax", "-o", out / f"vmlinux.{arch}",
            *[o.name for o in [*objects, stub_object]], cwd=work)
        if arch == "x86_64":  # what BPF objects are compiled and relocated against where no image is at hand
            (out / "vmlinux.btf").write_bytes(data)


def build_user(arch: str, out: Path) -> None:
    """user/*.c -> user/<name>.<arch> below `out`."""
    (out / "user").mkdir(exist_ok=True)
    mapping = [f"-ffile-prefix-map={ROOT}=images", "-fdebug-compilation-dir=images"]
    flags = [flag for flag in TARGETS[arch] if flag != "-mcmodel=kernel"]
    with tempfile.TemporaryDirectory() as scratch:
        for source in sorted((ROOT / "user").glob("*.c")):
            target = Path(scratch) / f"{source.stem}.o"
            zig("cc", *flags, *COMMON, *mapping, "-I", "user/include", "-c", source.relative_to(ROOT), "-o", target)
            zig("ld.lld", "-m", EMULATION[arch], "-T", ROOT / "user" / "user.ld", "--build-id=none", "-z",
                "max-page-size=4096", "-o", out / "user" / f"{source.stem}.{arch}", target.name, cwd=target.parent)


def build_bpf(out: Path) -> None:
    """bpf/*.bpf.c -> bpf/*.bpf.o below `out`."""
    (out / "bpf").mkdir(exist_ok=True)
    mapping = [f"-ffile-prefix-map={ROOT}=.", "-fdebug-compilation-dir=."]
    for source in sorted((ROOT / "bpf").glob("*.bpf.c")):
        zig("cc", *BPF_FLAGS, *mapping, "-I", "bpf/include", "-c", source.relative_to(ROOT),
            "-o", out / "bpf" / (source.name[:-2] + ".o"))


def build(out: Path) -> None:
    """Everything into `out`."""
    for arch in TARGETS:
        build_user(arch, out)
        if any((KERNEL / "arch" / arch).glob("*.ld")):
            build_kernel(arch, out)
    build_bpf(out)


def check() -> int:
    """Build aside and compare: 0 where every file is what is committed, 1 with the names of those that are not."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        build(fresh)
        made = sorted(p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file())
        wrong = [p for p in made if not (ROOT / p).is_file() or (ROOT / p).read_bytes() != (fresh / p).read_bytes()]
    for path in wrong:
        print(f"images/{path}: not what its source builds to; run make images", file=sys.stderr)
    if not wrong:
        print(f"images: {len(made)} files are what their sources build to")
    return 1 if wrong else 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m images.build", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of replacing")
    if parser.parse_args().check:
        return check()
    build(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
