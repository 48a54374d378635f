"""Views of guest structs over a plain buffer, by the image's own BTF."""

from pathlib import Path

import pytest

from kernel_model.types import Btf, TypeLookupError, Types

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
