"""BTF: what is written reads back, real kernels' BTF opens fast, malformed input is one clear error."""

import random
import struct
import time
from pathlib import Path

import pytest

from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf, Kind, Member
from kernel_model.types.btf_writer import BtfWriter

ROOT = Path(__file__).parents[3]
HOST = Path("/sys/kernel/btf/vmlinux")


def sample() -> bytes:
    w = BtfWriter()
    int_ = w.int_("int", 4, signed=True)
    u8 = w.int_("unsigned char", 1)
    bool_ = w.int_("_Bool", 1, boolean=True)
    inner = w.composite(Kind.UNION, "", 4, [Member("a", int_, 0, 0), Member("b", u8, 0, 0)])
    array = w.array(u8, int_, 16)
    node = w.composite(Kind.STRUCT, "node", 40, [
        Member("next", 7, 0, 0), Member("", inner, 64, 0), Member("name", array, 96, 0),
        Member("flag", int_, 224, 3), Member("ok", bool_, 232, 0), Member("state", 8, 256, 0),
    ])
    assert w.ref(Kind.PTR, node) == 7
    w.enum("state", 4, [("S_NEG", -1), ("S_TWO", 2)])
    proto = w.func_proto(int_, [("p__map", 7), ("", 0)])
    func = w.ref(Kind.FUNC, proto, "walk", linkage=1)
    w.decl_tag("bpf_kfunc", func)
    const = w.ref(Kind.CONST, int_)
    w.ref(Kind.TYPEDEF, const, "cint")
    return w.encode()


def test_written_types_read_back() -> None:
    btf = Btf(sample(), "sample")
    node = btf.find("node", Kind.STRUCT)
    assert node is not None and node.size == 40 and [m.name for m in node.members][:2] == ["next", ""]
    assert btf.find_member(node, "b") == Member("b", 2, 64, 0)
    flag = btf.find_member(node, "flag")
    assert flag is not None and (flag.bit_offset, flag.bitfield_size) == (224, 3)
    state = btf.find("state", Kind.ENUM)
    assert state is not None and state.values == (("S_NEG", -1), ("S_TWO", 2))
    walk = btf.find("walk", Kind.FUNC)
    assert walk is not None and btf.type(walk.type_id).params == (("p__map", 7), ("", 0))
    typedef = btf.find("cint")
    assert typedef is not None and btf.resolve(typedef.id).name == "int" and btf.sizeof(typedef.id) == 4
    assert btf.sizeof(5) == 16 and btf.type(3).int_bool and btf.type(1).int_signed
    assert btf.find("nothing") is None


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda d: d[:10], "are no header"),
        (lambda d: b"\0\0" + d[2:], "bad magic"),
        (lambda d: d[:2] + b"\2" + d[3:], "unsupported version 2"),
        (lambda d: d[:-9], "truncated"),
        (lambda d: d[:28] + struct.pack("<I", 31 << 24) + d[32:], "unknown kind 31"),
    ],
)
def test_malformed_input_is_named(change: object, cause: str) -> None:
    with pytest.raises(ObjectFileError, match=f"bad.o: .BTF: .*{cause}"):
        Btf(change(sample()), "bad.o")  # type: ignore[operator]


def test_a_loop_of_modifiers_ends() -> None:
    w = BtfWriter()
    w.ref(Kind.CONST, 2)
    w.ref(Kind.VOLATILE, 1)
    with pytest.raises(ObjectFileError, match="modifiers"):
        Btf(w.encode(), "loop").resolve(1)


def test_anonymous_structs_that_never_end() -> None:
    w = BtfWriter()
    w.composite(Kind.STRUCT, "self", 8, [Member("", 1, 0, 0)])
    loop = Btf(w.encode(), "loop")
    assert loop.find_member(loop.type(1), "x") is None
    w = BtfWriter()
    w.int_("int", 4)
    for below in range(1, 30):  # 2 ** 29 paths lead down
        w.composite(Kind.STRUCT, "", 8, [Member("", below, 0, 0), Member("", below, 32, 0)])
    fan = Btf(w.encode(), "fan")
    assert fan.find_member(fan.type(30), "x") is None
    for below in range(30, 60):
        w.composite(Kind.STRUCT, "", 8, [Member("", below, 0, 0)])
    deep = Btf(w.encode(), "deep")
    with pytest.raises(ObjectFileError, match="deep: .BTF: .*nested more than 32"):
        deep.find_member(deep.type(60), "x")


def test_writer_keeps_what_does_not_fit_32_bits() -> None:
    w = BtfWriter()
    w.enum("wide", 8, [("A", 1 << 40), ("B", -1)])
    w.float_("double", 8)
    btf = Btf(w.encode(), "wide")
    assert btf.type(1).kind is Kind.ENUM64 and btf.type(1).values == (("A", 1 << 40), ("B", -1))
    assert btf.type(2).kind is Kind.FLOAT and btf.sizeof(2) == 8
    with pytest.raises(ObjectFileError, match="STRUCT big: too large"):
        w.composite(Kind.STRUCT, "big", 1 << 23, [Member("a", 1, 0, 3), Member("b", 1, 1 << 24, 0)])
    with pytest.raises(ObjectFileError, match="ENUM crowd: 65536 items"):
        w.enum("crowd", 4, [(f"E{i}", i) for i in range(65536)])


def test_split_btf_counts_on_from_its_base() -> None:
    base = Btf(sample(), "vmlinux")
    own = b"\0widget\0"
    word = struct.pack("<III", base.string_size + 1, Kind.TYPEDEF << 24, 6)  # typedef struct node widget
    data = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, len(own)) + word + own
    module = Btf(data, "module", base)
    widget = module.find("widget")
    assert widget is not None and widget.id == base.type_count and module.sizeof(widget.id) == 40
    assert module.find("node") == base.find("node") and base.find("widget") is None


def test_mutations_never_escape() -> None:
    rng = random.Random(7)
    good = (ROOT / "images" / "vmlinux.btf").read_bytes()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
            at = rng.randrange(6, len(data) // 4 - 1) * 4
            data[at : at + 4] = struct.pack("<I", rng.choice((0, rng.randrange(3000), 0xFFFFFFFF)))
        try:
            btf = Btf(bytes(data[: rng.randrange(len(data) // 2, len(data) + 1)]), "fuzz")
            for kind in btf.types():
                btf.sizeof(kind.id)
                if kind.kind in (Kind.STRUCT, Kind.UNION):
                    btf.find_member(kind, "no such field")
        except ObjectFileError:
            pass


@pytest.mark.skipif(not HOST.exists(), reason="this machine's kernel shows no /sys/kernel/btf/vmlinux")
def test_a_distribution_kernel_opens_lazily() -> None:
    data = HOST.read_bytes()
    before = time.process_time()
    btf = Btf(data, str(HOST))
    task = btf.find("task_struct", Kind.STRUCT)
    spent = time.process_time() - before
    assert task is not None and btf.type_count > 50_000
    pid = btf.find_member(task, "pid")
    assert pid is not None and btf.resolve(pid.type_id).name == "int" and pid.bit_offset % 32 == 0
    assert len(btf._cache) < 100, "looking one type up decodes no others"
    assert spent < 3, "an order of magnitude over the goal means that something went quadratic"
