"""kernel_model/memory.py: RAM that the kernel model and the vCPUs share."""

import ctypes

import pytest

from kernel_model.memory import GuestMemory, PhysicalAddressError


@pytest.fixture
def ram():
    return GuestMemory(1 << 20, base=0x4000_0000)


@pytest.mark.parametrize(("width", "value"), [(8, 0xAB), (16, 0xBEEF), (32, 0xDEADBEEF), (64, 0x0123456789ABCDEF)])
@pytest.mark.parametrize("skew", range(8))
def test_words_of_any_alignment_are_little_endian(ram, width, value, skew):
    pa = ram.base + 0x100 + skew
    getattr(ram, f"write_u{width}")(pa, value)
    assert ram.read(pa, width // 8) == value.to_bytes(width // 8, "little")
    assert getattr(ram, f"read_u{width}")(pa) == value


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_writes_keep_only_their_width(ram, width):
    getattr(ram, f"write_u{width}")(ram.base, -1)
    assert ram.read_u64(ram.base) == (1 << width) - 1


def test_last_bytes_are_memory_and_the_next_are_not(ram):
    ram.write_u64(ram.end - 8, 1)
    for pa in (ram.end - 7, ram.end, ram.base - 8, ram.base - 1, 0):
        with pytest.raises(PhysicalAddressError, match="RAM is"):
            ram.read_u64(pa)
        with pytest.raises(PhysicalAddressError):
            ram.write_u64(pa, 0)
    with pytest.raises(PhysicalAddressError):
        ram.read(ram.base, -1)


def test_host_address_is_the_same_memory(ram):
    ctypes.memmove(ram.host_address + 0x20, b"from the vCPU", 13)
    assert ram.read(ram.base + 0x20, 13) == b"from the vCPU"
    ram.write(ram.base + 0x40, b"from Python")
    assert ctypes.string_at(ram.host_address + 0x40, 11) == b"from Python"


def test_views_and_arrays_do_not_copy(ram):
    table = ram.array(ram.base + 0x1000, 512)
    ram.write_u64(ram.base + 0x1008, 7)
    assert table[1] == 7
    table[2] = 9
    assert ram.read_u64(ram.base + 0x1010) == 9
    ram.view(ram.base, 4)[:] = b"abcd"
    assert ram.read(ram.base, 4) == b"abcd"
    ram.fill(ram.base, 4, 0x5A)
    assert ram.read(ram.base, 5) == b"ZZZZ\0"


def test_ram_is_whole_pages():
    with pytest.raises(PhysicalAddressError, match="page size"):
        GuestMemory(4097)


def test_strings_end_at_the_first_nul_or_at_the_limit(ram):
    ram.write(ram.end - 8, b"abc\0defg")
    assert ram.read_cstr(ram.end - 8, 8) == (b"abc", True)
    assert ram.read_cstr(ram.end - 8, 3) == (b"abc", False)
    assert ram.read_cstr(ram.end - 4, 4) == (b"defg", False)
    with pytest.raises(PhysicalAddressError):
        ram.read_cstr(ram.end - 4, 5)
