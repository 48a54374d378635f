"""Views of guest structs over a plain buffer, by the image's own BTF."""

import struct
from pathlib import Path

import pytest

from kernel_model.types import Btf, Kind, Member, TypeLookupError, Types
from kernel_model.types.btf_writer import BtfWriter

IMAGE = Path(__file__).parents[3] / "images" / "vmlinux.btf"


class Buffer:
    """Memory at address 0."""

    def __init__(self) -> None:
        self.data = bytearray(4096)

    def read(self, va: int, length: int) -> bytes:
        return bytes(self.data[va : va + length])

    def write(self, va: int, data: bytes) -> None:
        self.data[va : va + len(data)] = data


@pytest.fixture
def types() -> Types:
    return Types(Btf(IMAGE.read_bytes(), "vmlinux.btf"), Buffer())


def test_fields_are_attributes(types: Types) -> None:
    task = types.view("task_struct", 64)
    task.pid, task.comm, task.mm = -3, "sh", 0xFFFF888000001000
    assert (task.pid, task.comm.string(), task.mm) == (-3, "sh", 0xFFFF888000001000)
    at = 64 + types.offsetof("task_struct", "pid")
    assert types.memory.read(at, 4) == (-3 & 0xFFFFFFFF).to_bytes(4, "little")
    assert bytes(task.comm) == b"sh".ljust(16, b"\0") and task.comm[1] == ord("h")


def test_structs_inside_structs(types: Types) -> None:
    aux = types.view("bpf_prog_aux", 0)
    aux.ksym.start = 0x1000
    aux.ksym.name = "bpf_prog_f00_x"
    assert aux.ksym.name.string() == "bpf_prog_f00_x"
    assert aux.field_address("ksym.start") == types.offsetof("bpf_prog_aux", "ksym.start")
    assert types.offsetof("bpf_map", "name[3]") == types.offsetof("bpf_map", "name") + 3
    assert types.sizeof("page") == 64, "struct page is what the page allocator takes it for"


def test_wrong_names_are_told(types: Types) -> None:
    with pytest.raises(TypeLookupError, match="struct task_struct has no field pidd; did you mean pid"):
        _ = types.view("task_struct", 0).pidd
    with pytest.raises(TypeLookupError, match="no struct nothing"):
        types.view("nothing", 0)
    with pytest.raises(TypeLookupError, match="index 16 is outside"):
        _ = types.view("task_struct", 0).comm[16]
    with pytest.raises(TypeLookupError, match="do not fit"):
        types.view("task_struct", 0).comm = "x" * 17


@pytest.fixture
def odd() -> Types:
    """A struct with what C allows and the image has little of."""
    w = BtfWriter()
    int_, bool_ = w.int_("int", 4, signed=True), w.int_("_Bool", 1, boolean=True)
    wide = w.int_("u64", 8)
    w.composite(Kind.STRUCT, "", 8, [Member("elsewhere", int_, 0, 0)])
    inner = w.composite(Kind.STRUCT, "", 8, [Member("p", int_, 0, 0), Member("x", int_, 32, 0)])
    state = w.enum("state", 4, [("S_NEG", -1)])
    w.composite(Kind.STRUCT, "odd", 128, [
        Member("u", inner, 0, 0), Member("state", state, 64, 0), Member("ok", bool_, 96, 0),
        Member("low", int_, 104, 3), Member("high", int_, 107, 9), Member("ints", w.array(int_, int_, 3), 128, 0),
        Member("wides", w.array(wide, int_, 2), 256, 0), Member("bools", w.array(bool_, int_, 2), 384, 0),
        Member("structs", w.array(inner, int_, 2), 448, 0), Member("rest", w.array(int_, int_, 0), 640, 0),
    ])
    return Types(Btf(w.encode(), "odd.btf"), Buffer())


def test_scalars_keep_their_c_meaning(odd: Types) -> None:
    v = odd.view("odd", 16)
    v.state, v.ok = -1, 2
    assert v.state == -1 and v.ok is True and odd.memory.read(16 + 12, 1) == b"\1"
    v.low, v.high = -1, 0x55
    assert (v.low, v.high) == (-1, 0x55), "neighbouring bitfields, the second over a byte's end"
    assert odd.memory.read(16 + 13, 2) == (0x7 | 0x55 << 3).to_bytes(2, "little")


def test_arrays_are_sequences_of_their_elements(odd: Types) -> None:
    v = odd.view("odd", 0)
    v.wides = [1, 2]
    v.ints[1] = -5
    v.bools[1] = 7
    assert list(v.wides) == [1, 2] and list(v.ints) == [0, -5, 0] and list(v.bools) == [False, True]
    v.structs[1].x = 9
    assert v.structs[1].x == 9 and v.field_address("structs[1].x") == 56 + 8 + 4
    v.rest[3] = 4
    assert odd.memory.read(80 + 12, 4) == b"\4\0\0\0", "a flexible array has no end that BTF knows"
    with pytest.raises(TypeLookupError, match="element 0 is a struct"):
        v.structs[0] = 5
    with pytest.raises(TypeLookupError, match="set by its bytes"):
        v.structs = [1]


def test_paths(odd: Types) -> None:
    v = odd.view("odd", 0)
    assert v.u.field_address("x") == 4, "in a struct without a name"
    for path in ("u->x", "u[1]", "u..x", "ints[", "ints[x]"):
        with pytest.raises(TypeLookupError, match="is no path of fields"):
            odd.offsetof("odd", path)


def test_bitfields_of_the_old_encoding() -> None:
    """Without kind_flag the INT behind a member says how many bits it has, and where they begin in it."""
    def type_(name: int, kind: int, vlen: int, size: int, *rest: int) -> bytes:
        return b"".join((w & 0xFFFFFFFF).to_bytes(4, "little") for w in (name, kind << 24 | vlen, size, *rest))

    strings = b"\0int\0s\0a\0b\0c\0whole\0self\0"
    texts = ("int", "s", "a", "b", "c", "whole", "self")
    name = {text: strings.index(b"\0" + text.encode() + b"\0") + 1 for text in texts}
    words = (
        type_(name["int"], 1, 0, 4, 1 << 24 | 32) + type_(0, 1, 0, 4, 3) + type_(0, 1, 0, 4, 1 << 24 | 5 << 16 | 7)
        + type_(0, 10, 0, 2)  # const
        + type_(name["s"], 4, 5, 12, name["a"], 4, 0, name["b"], 3, 0, name["c"], 2, 13, name["whole"], 1, 32,
                name["self"], 5, 64)
    )
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(words), len(words), len(strings))
    types = Types(Btf(header + words + strings, "old"), Buffer())
    members = {m.name: (m.bit_offset, m.bitfield_size, m.by_type) for m in types.btf.type(5).members}
    assert members == {"a": (0, 3, True), "b": (5, 7, True), "c": (13, 3, True), "whole": (32, 0, False),
                       "self": (64, 0, False)}
    view = types.view("s", 0)
    view.a, view.b, view.c, view.whole = 5, -3, 6, -1
    assert (view.a, view.b, view.c, view.whole) == (5, -3, 6, -1)
    assert types.memory.read(0, 8) == (5 | (-3 & 0x7F) << 5 | 6 << 13 | 0xFFFFFFFF << 32).to_bytes(8, "little")
