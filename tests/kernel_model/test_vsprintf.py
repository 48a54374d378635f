"""Conversions of the kernel's printf; the bpf_bprintf rules are those the 6.18 kernel enforced in the golden run."""

import pytest

from kernel_model.errors import NotModelledError
from kernel_model.vsprintf import E2BIG, EINVAL, Environment, bprintf_args, hash_pointer, vsprintf

STRINGS = {0x5000: b"str"}
ENV = Environment(STRINGS.get, lambda a: f"f+0x{a & 0xF:x}/0x10")


@pytest.mark.parametrize(
    ("fmt", "args", "text"),
    [
        ("a=%d b=%lx s=%s c=%c\n", (0xFFFFFFFB, 0x1234, 0x5000, ord("z")), "a=-5 b=1234 s=str c=z\n"),
        ("%u %5d|%-5d|%05d", (7, 42, 42, 42), "7    42|42   |00042"),
        ("%llu %ld", (1 << 63, (1 << 64) - 2), "9223372036854775808 -2"),
        ("0x%lx %#x %08x", (255, 255, 0xABC), "0xff 0xff 00000abc"),
        ("%pS %ps", (0xFF01, 0xFF01), "f+0x1/0x10 f"),
        ("%px", (0xFFFF888000000000,), "ffff888000000000"),
        ("%s %s", (0, 16), "(null) (efault)"),
        ("%.2s|%5.1s|%*d", (0x5000, 0x5000, 4, 7), "st|    s|   7"),
        ("100%%", (), "100%"),
        ("%hhx %hd", (0x1FF, 0x18000), "ff -32768"),
    ],
)
def test_conversions(fmt: str, args: tuple[int, ...], text: str) -> None:
    assert vsprintf(fmt, args, ENV) == text


def test_plain_pointers_are_hashed_to_32_bits_and_null_is_not() -> None:
    text = vsprintf("%p %p", (0xFFFF888012345678, 0), ENV)
    assert text == f"{hash_pointer(0xFFFF888012345678):016x} 0000000000000000"
    assert text.startswith("00000000") and "12345678" not in text


@pytest.mark.parametrize("fmt", ["%pOF", "%n", "%y"])
def test_unknown_conversions_are_named(fmt: str) -> None:
    with pytest.raises(NotModelledError, match="not modelled"):
        vsprintf(fmt, (1,), ENV)


@pytest.mark.parametrize(
    ("fmt", "count", "result"),
    [
        ("a=%d b=%lx s=%s c=%c\n", 4, 0),
        ("x\n", 0, 0),
        ("%d", 0, -EINVAL),
        ("%d", 2, -EINVAL),
        ("%n", 1, -EINVAL),
        ("%", 0, -EINVAL),
        ("caf\xe9", 0, -EINVAL),
        ("%p %px %pks %pI4 %llx %%", 5, 0),
        ("%hd", 1, -EINVAL),
        ("", 13, -E2BIG),
    ],
)
def test_bprintf_rules(fmt: str, count: int, result: int) -> None:
    assert bprintf_args(fmt, count) == result
