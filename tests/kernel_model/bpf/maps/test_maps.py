"""Arrays and hashes against the rules of arraymap.c and hashtab.c, over memory that is a plain dict."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_model.bpf.maps.array import ArrayMap, array_map_alloc_check, elem_size, index_mask
from kernel_model.bpf.maps.base import BPF_EXIST, BPF_NOEXIST, E2BIG, EEXIST, EINVAL, ENOENT, Maps, unsupported
from kernel_model.bpf.maps.hash import HashMap, htab_map_alloc_check
from kernel_model.bpf.program import MapSpec, MapType
from kernel_model.errors import KernelErrno, NotModelledError


class Memory:
    """Bytes by address, and a bump allocator that knows what is still allocated."""

    def __init__(self) -> None:
        self.data = bytearray(1 << 16)
        self.next = 0x1000
        self.live: set[int] = set()

    def read(self, va: int, length: int) -> bytes:
        return bytes(self.data[va : va + length])

    def write(self, va: int, data: bytes) -> None:
        self.data[va : va + len(data)] = data

    def kmalloc(self, size: int) -> int:
        at, self.next = self.next, self.next + ((size + 7) & ~7)
        self.live.add(at)
        return at

    def kfree(self, va: int) -> None:
        self.live.remove(va)


def array(memory: Memory, entries: int = 3, value_size: int = 12) -> ArrayMap:
    spec = MapSpec("a", MapType.ARRAY, 4, value_size, entries)
    return ArrayMap(spec, 1, 0x800, space=memory, values=0x900)


def key(n: int) -> bytes:
    return struct.pack("<I", n)


def test_array_rules() -> None:
    memory = Memory()
    a = array(memory)
    assert [a.lookup(key(i)) for i in range(4)] == [0x900, 0x910, 0x920, 0]
    assert a.update(key(1), b"x" * 12, 0) == 0 and memory.read(0x910, 12) == b"x" * 12
    assert a.update(key(3), b"", 0) == -E2BIG
    assert a.update(key(0), b"", BPF_NOEXIST) == -EEXIST
    assert a.update(key(0), b"", 8) == -EINVAL
    assert a.delete(key(0)) == -EINVAL
    assert list(a.keys()) == [key(0), key(1), key(2)]
    assert elem_size(a.spec) == 16 and index_mask(3) == 3 and index_mask(4) == 3 and index_mask(1) == 0


def test_direct_value_access_is_for_one_element() -> None:
    one = array(Memory(), entries=1)
    assert one.direct_value_addr(11) == 0x90B
    with pytest.raises(KernelErrno, match="offset 12 is outside"):
        one.direct_value_addr(12)
    with pytest.raises(KernelErrno, match="max_entries 1"):
        array(Memory()).direct_value_addr(0)


@pytest.mark.parametrize(("key_size", "value_size", "entries", "flags"),
                         [(8, 4, 1, 0), (4, 0, 1, 0), (4, 4, 0, 0), (4, 4, 1, 1)])
def test_array_attributes(key_size: int, value_size: int, entries: int, flags: int) -> None:
    with pytest.raises(KernelErrno) as caught:
        array_map_alloc_check(MapSpec("bad", MapType.ARRAY, key_size, value_size, entries, flags))
    assert caught.value.errno == EINVAL and "'bad'" in str(caught.value)


def test_hash_attributes() -> None:
    htab_map_alloc_check(MapSpec("h", MapType.HASH, 1, 1, 1))
    with pytest.raises(KernelErrno, match="max_entries 0"):
        htab_map_alloc_check(MapSpec("h", MapType.HASH, 1, 1, 0))


@given(st.lists(st.tuples(st.sampled_from("uUxd"), st.integers(0, 5), st.integers(0, 255)), max_size=40))
def test_hash_like_a_dict(ops: list[tuple[str, int, int]]) -> None:
    memory = Memory()
    h = HashMap(MapSpec("h", MapType.HASH, 4, 1, 3), 1, 0x800, space=memory, allocator=memory)
    model: dict[bytes, bytes] = {}
    for op, n, v in ops:
        k, value = key(n), bytes([v])
        if op == "d":
            assert h.delete(k) == (0 if model.pop(k, None) is not None else -ENOENT)
            continue
        flags = {"u": 0, "U": BPF_NOEXIST, "x": BPF_EXIST}[op]
        want = 0
        if k in model and op == "U":
            want = -EEXIST
        elif k not in model and op == "x":
            want = -ENOENT
        elif k not in model and len(model) == 3:
            want = -E2BIG
        assert h.update(k, value, flags) == want
        if not want:
            model[k] = value
    assert {k: memory.read(h.lookup(k), 1) for k in list(h.keys())} == model
    assert h.lookup(key(9)) == 0
    h.free()
    assert not memory.live


def test_helpers_find_the_map_by_address() -> None:
    memory = Memory()
    maps = Maps(memory)
    maps.add(array(memory))
    memory.write(0x100, key(2))
    memory.write(0x110, b"hello, world")
    assert maps.bpf_map_update_elem(0x800, 0x100, 0x110, 0) == 0
    assert memory.read(maps.bpf_map_lookup_elem(0x800, 0x100), 5) == b"hello"
    assert maps.bpf_map_delete_elem(0x800, 0x100) == -EINVAL
    with pytest.raises(NotModelledError, match="no map at 0x1"):
        maps.bpf_map_lookup_elem(1, 0x100)


def test_unsupported_types_are_named() -> None:
    assert "RINGBUF is not modelled" in str(unsupported(MapSpec("r", MapType.RINGBUF, 0, 0, 4096)))
