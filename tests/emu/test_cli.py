"""The command line as a person types it: outputs, exit status, one clear line for bad input."""

import json
from pathlib import Path

import pytest

from emu.cli import main

BPF = Path(__file__).parents[2] / "images" / "bpf"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "nosuch"], "unknown scenario 'nosuch': known are arena-oob"),
        (["run", "arena-oob", "--profile", "v9"], "unknown profile 'v9': known are v6.18"),
        (["run", "arena-oob", "--arch", "mips"], "unknown architecture 'mips'"),
        (["run", "arena-oob", "--engine", "x"], "unknown engine 'x': known are jit, interp"),
        (["run", "missing.bpf.o"], "missing.bpf.o: No such file or directory"),
        (["run", "missing.py"], "missing.py: no such file"),
        (["run", str(BPF / "maps.bpf.o"), "nosuch"], "no program 'nosuch'; it has array_and_hash"),
        (["verify", __file__], "not an ELF file"),
        (["dump", "jited", str(BPF / "maps.bpf.o"), "nosuch"], "no program 'nosuch'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("kemu: ") and captured.err.count("\n") == 1 and text in captured.err
    assert "Traceback" not in captured.err


def test_run_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(BPF / "maps.bpf.o"), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [r["prog"] for r in results] == ["array_and_hash", "iterate", "identity"]
    assert all(r["error"] == 0 and not r["oops"] for r in results)


def test_an_oops_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(BPF / "arena_oob.bpf.o"), "below"]) == 1
    assert "below: oops\n  dmesg: BUG: unable to handle page fault for address:" in capsys.readouterr().out


def test_verify_at_level_2_shows_the_walk(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "-l", "2", str(BPF / "arena_other.bpf.o")]) == 0
    out = capsys.readouterr().out
    assert "func#0 @0\n" in out and "R1=ctx() R10=fp0" in out and "\nprocessed " in out
    assert out.splitlines()[-2].split() == ["arena_other.bpf.o", "where", "success", "8"]


@pytest.mark.parametrize("level", ["0", "1"])
def test_verify_says_what_libbpf_poisoned(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    poison = BPF.parents[1] / "tests" / "kernel_model" / "bpf" / "object" / "data" / "poison.bpf.o"
    assert main(["verify", "-l", level, str(poison)]) == 1
    out = capsys.readouterr().out
    core = "failed to resolve CO-RE relocation <byte_off> [2] struct not_in_any_kernel.y (0:1 @ offset 4)"
    kfunc = "kfunc 'a_missing_kfunc' is referenced but wasn't resolved"
    assert f"failure ({core})" in out and f"failure ({kfunc})" in out and "unknown#" not in out
    assert (f"\n0: <invalid CO-RE relocation>\n{core}\nprocessed 1 insns" in out) == (level == "1")
    assert (f"\n0: <invalid kfunc call>\n{kfunc}\nprocessed 1 insns" in out) == (level == "1")


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_dumps(arch: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(BPF / "arena_oob.bpf.o")
    assert main(["dump", "jited", file, "own_access", "--arch", arch]) == 0
    assert ("r12" if arch == "x86_64" else "x28") in capsys.readouterr().out
    assert main(["dump", "xlated", file, "own_access", "--arch", arch]) == 0
    out = capsys.readouterr().out
    assert "; res[0] = p[1];" in out and "addr_space_cast" not in out, "casts to the kernel's view became moves"


def test_a_scenario_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "s.py"
    good.write_text("def scenario(kernel):\n    print(kernel.profile.name)\n    return False\n")
    assert main(["run", str(good), "--profile", "v7.1"]) == 1
    assert capsys.readouterr().out == "v7.1\n"
    good.write_text("x = 1\n")
    assert main(["run", str(good)]) == 2
    assert "defines no function scenario(kernel)" in capsys.readouterr().err
    good.write_text("def scenario(:\n")
    assert main(["run", str(good)]) == 2
    assert f"kemu: {good}:1: " in capsys.readouterr().err


def test_an_object_whose_programs_are_all_optional_has_nothing_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(BPF / "iters_task_vma.bpf.o")]) == 2
    assert "nothing to run" in capsys.readouterr().err
