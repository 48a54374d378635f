"""The 17 programs of arena_golden.bpf.c: return values, res[] and stream texts of a real 6.18.35 kernel (x86-64).

The values are the same on arm64; its stack dumps have that architecture's frames, so only their reports are compared.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import emu
from kernel_model.bpf.object import load_object

ROOT = Path(__file__).resolve().parents[2]
OBJECT = ROOT / "images" / "bpf" / "arena_golden.bpf.o"
GOLDEN = ROOT / "tests" / "golden" / "arena_golden.v6.18.x86_64.txt"
CUT = "...[cut]..."
NAMES = re.findall(r"^=== (\w+) load 0$", GOLDEN.read_text(), re.M)


@cache
def _expected() -> dict[str, tuple[int, list[int], dict[int, str]]]:
    """name -> (retval, res, stream id -> text)."""
    found = {}
    for part in re.split(r"^=== ", GOLDEN.read_text(), flags=re.M)[1:]:
        name = part.split()[0]
        retval = int(re.search(r"^run 0 retval (\d+)$", part, re.M)[1])
        res = [int(word, 0) for word in re.search(r"^res (.*)$", part, re.M)[1].split()]
        streams = re.split(r"^--- stream (\d): \d+ bytes \(last 0\)\n", part, flags=re.M)[1:]
        # whoever printed the file put one line end behind each stream
        texts = {int(number): text[:-1] for number, text in zip(streams[::2], streams[1::2], strict=True)}
        found[name] = (retval, res, texts)
    return found


def _masked(text: str) -> str:
    text = re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+", "+OFF/SIZE", text)
    text = re.sub(r"bpf_prog_[0-9a-f]{16}_", "bpf_prog_TAG_", text)
    text = re.sub(r"CPU: \d+ UID: 0 PID: \d+", "CPU: N UID: 0 PID: N", text)
    return re.sub(r"^err 7 [0-9a-f]{16}$", "err 7 POINTER", text, flags=re.M)


def _reports(text: str) -> list[str]:
    return re.findall(r"^ERROR: .*$", text, re.M)


def _run(arch: str, name: str):
    kernel = emu.boot(arch, "v6.18")
    obj = load_object(OBJECT, kernel.types.btf)
    maps = kernel.create_maps(obj)
    spec = next(prog for prog in obj.progs if prog.name == name)
    prog = kernel.load_prog(spec, obj, maps)
    result = kernel.run(prog)
    data = next(m for m in maps if m.spec.section == ".bss")
    raw = kernel.space.read(data.direct_value_addr(0), 64)
    return result, [int.from_bytes(raw[i : i + 8], "little") for i in range(0, 64, 8)]


def test_the_reference_has_all_programs():
    assert len(NAMES) == 17


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_program_gives_what_it_gave_on_the_real_kernel(arch, name):
    retval, res, streams = _expected()[name]
    result, values = _run(arch, name)
    assert (result.error, result.retval) == (0, retval)
    assert values == res
    assert not result.oops
    for number, printed in ((1, result.stdout), (2, result.stderr)):
        wanted = streams.get(number, "")
        if CUT in wanted:  # whoever printed the file left out the middle
            head, tail = (_masked(piece) for piece in wanted.split(CUT))
            assert _reports(printed)[: len(_reports(head))] == _reports(head)
            if name == "many_faults":  # how many reports BPF_STREAM_MAX_CAPACITY lets through depends on their length
                assert 99_000 < len(printed) <= 100_000
            else:
                assert _reports(printed)[-len(_reports(tail)) :] == _reports(tail)
            if arch == "x86_64":
                assert _masked(printed).startswith(head[: head.rindex("\n")])
                assert name == "many_faults" or _masked(printed).endswith(tail[tail.index("\n", 1) :])
        elif arch == "x86_64" or "Call trace:" not in wanted:
            assert _masked(printed) == _masked(wanted)
        else:
            assert _reports(printed) == _reports(wanted)
            sources = re.findall(r"^  .* @ arena_golden\.bpf\.c:\d+$", wanted, re.M)
            assert re.findall(r"^  .* @ arena_golden\.bpf\.c:\d+$", printed, re.M) == sources
