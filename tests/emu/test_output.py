"""What a program writes to its descriptors 1 and 2 comes back with its result."""

import pytest

import emu


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def write(kernel, text, length=None):
    variables = {"text": text.ljust(64, b"\0"), "length": len(text) if length is None else length}
    result = kernel.run_user("writer", variables, read={"result": 8})
    return result.output, int.from_bytes(result.values["result"], "little", signed=True)


def test_a_program_prints(kernel):
    assert write(kernel, b"one line\n") == ("one line\n", 9)
    assert write(kernel, b"") == ("", 0), "nothing is left of the last program"
    assert write(kernel, "Grüße \xff".encode()[:-2] + b"\xff") == ("Grüße \\xff", 9)


def test_what_cannot_be_read_is_not_written(kernel):
    text, count = write(kernel, b"x" * 64, 1 << 20)
    assert 64 <= count < 1 << 17, "as far as the program's data goes"
    assert len(text.encode()) == count and text.startswith("x" * 64 + "\0")


def test_a_redirected_descriptor_is_no_output(kernel):
    kernel.insmod("golden")
    assert kernel.write_golden("warn").output == ""
    assert write(kernel, b"back") == ("back", 4)
