"""CO-RE relocations, rule by rule, on types made for it."""

import pytest

from arch.bpf_isa import Insn
from kernel_model.bpf.object.btf_ext import CoreRelo
from kernel_model.bpf.object.core_match import essential_name
from kernel_model.bpf.object.core_relo import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    FIELD_LSHIFT_U64,
    FIELD_RSHIFT_U64,
    FIELD_SIGNED,
    POISON_IMM,
    TYPE_EXISTS,
    TYPE_ID_LOCAL,
    TYPE_ID_TARGET,
    TYPE_MATCHES,
    TYPE_SIZE,
    Relocator,
    Resolved,
    patch,
)
from kernel_model.bpf.object.maps import internal_map_name
from kernel_model.errors import ObjectFileError
from kernel_model.types import Btf


class Blob:
    """A .BTF section by hand: types are 32-bit words."""

    def __init__(self) -> None:
        self.strings, self.words, self.count = b"\0", b"", 0

    def add(self, name: str, kind: int, vlen: int, size: int, *rest: int, flag: bool = False) -> int:
        words = [self.name(name), kind << 24 | vlen | flag << 31, size, *rest]
        self.words += b"".join((w & 0xFFFFFFFF).to_bytes(4, "little") for w in words)
        self.count += 1
        return self.count

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def btf(self, title: str) -> Btf:
        header = (0x9F, 0xEB, 1, 0)
        sizes = (24, 0, len(self.words), len(self.words), len(self.strings))
        head = bytes(header) + b"".join(n.to_bytes(4, "little") for n in sizes)
        return Btf(head + self.words + self.strings, title)


def types(title: str, *, moved: bool, flavor: str = "") -> tuple[Btf, dict[str, int]]:
    b = Blob()
    ids = {"int": b.add("int", 1, 0, 4, 1 << 24 | 32), "u32": b.add("unsigned int", 1, 0, 4, 32),
           "u64": b.add("unsigned long", 1, 0, 8, 64)}
    width, pad = ("u64", 64) if moved else ("u32", 0)
    wide = 64 if moved else 32
    members = [b.name("a"), ids["int"], pad, b.name("b"), ids[width], pad + 64, b.name("bits"), ids["u32"],
               5 << 24 | pad + 64 + wide + 3]
    ids["s"] = b.add("s" + flavor, 4, 3, 24 if moved else 16, *members, flag=True)
    ids["e"] = b.add("e", 6, 2, 4, b.name("ONE"), 1, b.name("TWO"), 7 if moved else 2)
    if not moved:
        ids["gone"] = b.add("gone", 4, 1, 4, b.name("x"), ids["int"], 0)
    anonymous = b.add("", 4, 1, 4, b.name("counter"), ids["int"], 0)
    ids["t"] = b.add("counter_t", 8, 0, anonymous)
    return b.btf(title), ids


@pytest.fixture
def relocator() -> tuple[Relocator, dict[str, int], dict[str, int]]:
    local, ours = types("prog.bpf.o", moved=False, flavor="___mine")
    target, theirs = types("vmlinux", moved=True)
    return Relocator(local, target), ours, theirs


@pytest.mark.parametrize(
    ("what", "access", "kind", "value"),
    [("s", "0:0", FIELD_BYTE_OFFSET, 8), ("s", "0:1", FIELD_BYTE_OFFSET, 16), ("s", "0:1", FIELD_BYTE_SIZE, 8),
     ("s", "1:0", FIELD_BYTE_OFFSET, 32), ("s", "0:0", FIELD_EXISTS, 1), ("gone", "0:0", FIELD_EXISTS, 0),
     ("s", "0:0", FIELD_SIGNED, 1), ("s", "0:1", FIELD_SIGNED, 0), ("gone", "0:0", FIELD_BYTE_OFFSET, None),
     ("s", "0:2", FIELD_BYTE_OFFSET, 24), ("s", "0:2", FIELD_BYTE_SIZE, 4), ("s", "0:2", FIELD_LSHIFT_U64, 56),
     ("s", "0:2", FIELD_RSHIFT_U64, 59), ("t", "0:0", FIELD_BYTE_OFFSET, 0),
     ("s", "0", TYPE_EXISTS, 1), ("gone", "0", TYPE_EXISTS, 0), ("s", "0", TYPE_SIZE, 24), ("gone", "0", TYPE_SIZE, 0),
     ("gone", "0", TYPE_ID_TARGET, 0), ("s", "0", TYPE_MATCHES, 0), ("t", "0", TYPE_MATCHES, 1),
     ("e", "1", ENUMVAL_VALUE, 7), ("e", "1", ENUMVAL_EXISTS, 1)],
)
def test_values(relocator: tuple[Relocator, dict[str, int], dict[str, int]], what: str, access: str, kind: int,
                value: int | None) -> None:
    assert relocator[0].resolve(CoreRelo(0, relocator[1][what], access, kind)).value == value


def test_type_ids(relocator: tuple[Relocator, dict[str, int], dict[str, int]]) -> None:
    subject, ours, theirs = relocator
    assert subject.resolve(CoreRelo(0, ours["t"], "0", TYPE_ID_LOCAL)).value == ours["t"]
    assert subject.resolve(CoreRelo(0, ours["t"], "0", TYPE_ID_TARGET)).value == theirs["t"]


def test_unsigned_loads_take_the_kernels_width(relocator: tuple[Relocator, dict[str, int], dict[str, int]]) -> None:
    result = relocator[0].resolve(CoreRelo(0, relocator[1]["s"], "0:1", FIELD_BYTE_OFFSET))
    assert result == Resolved(16, 8, (4, 8), True)
    insns = [Insn(0x61, 1, 2, 8, 0)]  # r1 = *(u32 *)(r2 + 8)
    assert patch(insns, 0, result) is None
    assert (insns[0].code, insns[0].off) == (0x79, 16)


def test_poison() -> None:
    insns = [Insn(0x18, 1, 0, 0, 5), Insn(0, 0, 0, 0, 0), Insn(0x61, 1, 2, 8, 0)]
    assert patch(insns, 0, Resolved(None)) is None
    assert patch(insns, 2, Resolved(16, 8, (4, 8), False)) is None
    assert [(i.code, i.imm) for i in insns] == [(0x85, POISON_IMM)] * 3


@pytest.mark.parametrize(
    ("insn", "result", "text"),
    [(Insn(0x61, 1, 2, 4, 0), Resolved(16, 8), "unexpected insn offset: got 4, exp 8 -> 16"),
     (Insn(0x61, 1, 2, 8, 0), Resolved(0x8000, 8), "too big"), (Insn(0xB7, 1, 0, 0, 3), Resolved(1, 4), "got 3, exp 4"),
     (Insn(0x95, 0, 0, 0, 0), Resolved(1), "cannot be relocated"), (Insn(0x18, 0, 0, 0, 0), Resolved(1), "cannot be")],
)
def test_instructions_that_do_not_fit(insn: Insn, result: Resolved, text: str) -> None:
    assert text in str(patch([insn], 0, result))


@pytest.mark.parametrize("access", ["", "x", "0:-1", "0:9", "0:0:0", "0:" * 80 + "0", "9" * 40])
def test_damaged_access_strings(relocator: tuple[Relocator, dict[str, int], dict[str, int]], access: str) -> None:
    with pytest.raises(ObjectFileError, match=r"prog\.bpf\.o: section \.BTF\.ext: CO-RE relocation struct s___mine"):
        relocator[0].resolve(CoreRelo(0, relocator[1]["s"], access, FIELD_BYTE_OFFSET))


@pytest.mark.parametrize(
    ("name", "essential"),
    [("a___b", "a"), ("a____b", "a____b"), ("a___", "a___"), ("___b", "___b"), ("a___b___c", "a___b"), ("ab", "ab")],
)
def test_flavors(name: str, essential: str) -> None:
    assert essential_name(name) == essential


@pytest.mark.parametrize(
    ("section", "name"),
    [(".bss", "arena_go.bss"), (".rodata", "arena_go.rodata"), (".data.cache", ".data.cache"),
     (".rodata.very_long_name", ".rodata.very_lo")],
)
def test_names_of_data_maps(section: str, name: str) -> None:
    assert internal_map_name("arena_golden", section) == name


def test_flavors_of_the_kernel_do_not_count_either() -> None:
    b = Blob()
    b.add("int", 1, 0, 4, 1 << 24 | 32)
    for name, at in (("other", 0), ("one___v1", 64), ("ones___v1", 32), ("one___v2", 64), ("one___v1___x", 96)):
        b.add(name, 4, 1, 16, b.name("x"), 1, at)
    target = b.btf("vmlinux")
    assert [t.name for t in target.find_prefixed("one___")] == ["one___v1", "one___v2", "one___v1___x"]
    local = Blob()
    local.add("int", 1, 0, 4, 1 << 24 | 32)
    for name in ("one", "one___v1___mine", "one___v1"):
        local.add(name, 4, 1, 4, local.name("x"), 1, 0)
    subject = Relocator(local.btf("prog.bpf.o"), target)
    results = [subject.resolve(CoreRelo(0, i, "0:0", FIELD_BYTE_OFFSET)).value for i in (2, 3, 4)]
    assert results == [8, 12, 8]
