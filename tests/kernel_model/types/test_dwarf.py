"""DWARF to BTF: layouts as the compiler has them, prototypes of functions that are only called."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf, Kind, dwarf

SOURCE = """
typedef unsigned long long u64;
struct later;
struct list { struct list *next; };
struct thing {
    char c; u64 wide; unsigned low : 3; unsigned high : 5; union { int a; short b; }; struct list link;
    struct later *l; int grid[2][3]; enum { RED = -1, BLUE = 4 } colour; _Bool yes;
};
int outside(struct thing *p__map, u64 n, const char *fmt);
int inside(struct thing *t) { return outside(t, sizeof(*t), "x") + __builtin_offsetof(struct thing, grid); }
"""


def test_a_compiled_object(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(SOURCE)
    flags = ["-target", "x86_64-freestanding-none", "-O2", "-g", "-gdwarf-4", "-fno-sanitize=all", "-c"]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "a.c", "-o", "a.o"], cwd=tmp_path, check=True)
    data = dwarf.encode(dwarf.collect([tmp_path / "a.o"]))
    assert data == dwarf.encode(dwarf.collect([tmp_path / "a.o"]))
    btf = Btf(data, "a.o")
    thing = btf.find("thing", Kind.STRUCT)
    assert thing is not None and thing.size == 72
    offsets = {name: btf.find_member(thing, name) for name in ("wide", "low", "high", "b", "link", "grid", "yes")}
    assert {n: m and (m.bit_offset, m.bitfield_size) for n, m in offsets.items()} == {
        "wide": (64, 0), "low": (128, 3), "high": (131, 5), "b": (160, 0), "link": (192, 0), "grid": (320, 0),
        "yes": (544, 0),
    }
    grid = offsets["grid"]
    assert grid is not None and btf.sizeof(grid.type_id) == 24
    outside = btf.find("outside", Kind.FUNC)
    assert outside is not None
    proto = btf.type(outside.type_id)
    assert [btf.resolve(t).kind for _, t in proto.params] == [Kind.PTR, Kind.INT, Kind.PTR]
    assert btf.find("later", Kind.FWD) is not None


def test_a_file_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "a.o").write_bytes(b"no ELF at all")
    with pytest.raises(ObjectFileError, match=r"a\.o: DWARF: "):
        dwarf.collect([tmp_path / "a.o"])
