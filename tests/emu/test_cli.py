"""The command line as a person types it: outputs, exit status, one clear line for bad input."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emu.cli import main

BPF = Path(__file__).parents[2] / "images" / "bpf"
TOKEN = "kemu1/task-vma/arm64/v7.0/37/1=1,6=2"


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
        (["run", "task-vma", "extra"], "task-vma: takes no program name, got 'extra'"),
        (["run", "s.py", "extra"], "s.py: takes no program name"),
        (["run", "s.py", "--engine", "jit"], "s.py: --engine is not for a scenario file"),
        (["run", "s.py", "--json"], "s.py: --json is not for a scenario file"),
        (["run", "s.py", "--seed", "0"], "s.py has no schedules to choose from: --seed 0"),
        (["run", "arena-oob", "--seed", "1"], "arena-oob has no schedules to choose from: --seed 1"),
        (["run", str(BPF / "maps.bpf.o"), "--schedule", "pct"], "has no schedules to choose from: --schedule pct"),
        (["run", str(BPF / "maps.bpf.o"), ""], "no program ''"),
        (["run", "task-vma", "--schedule", ""], "no schedule ''"),
        (["run", "task-vma", "--schedule", "queued", "--seed", "1"], "schedule queued is not drawn by lot"),
        (["run", "task-vma", "--schedule", TOKEN, "--seed", "1"], "is not drawn by lot"),
        (["run", "task-vma", "--schedule", TOKEN, "--profile", "v7.1"], "the token is for kernel v7.0, not v7.1"),
        (["run", "task-vma", "--schedule", TOKEN, "--arch", "x86_64"], "for architecture arm64, not x86_64"),
        (["run", "task-vma", "--schedule", TOKEN.replace("37", "9" * 5000)], "the number of decisions is '999"),
        (["run", "task-vma", "--schedule", TOKEN.replace("v7.0", "v9")], "unknown profile 'v9'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("kemu: ") and captured.err.count("\n") == 1 and text in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "required: COMMAND (see kemu --help)"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["run"], "(see kemu run --help)"),
        (["run", "task-vma", "--seed", "-1"], "argument --seed: not a number of at least 0: '-1'"),
        (["run", "task-vma", "--seed", "\N{ARABIC-INDIC DIGIT ONE}"], "argument --seed: not a number"),
        (["run", "task-vma", "--seed", "9" * 5000], "argument --seed: a number of more than 18 digits"),
        (["compare", "task-vma", "--schedules", "1e9"], "argument --schedules: not a number"),
        (["compare", "task-vma", "--schedule", "7"], "unrecognized arguments: --schedule 7"),
        (["verify", "a.bpf.o", "-l", "3"], "invalid choice: 3"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line_and_status_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert error.startswith("kemu: ") and error.count("\n") == 1 and text in error and len(error) < 300


def test_a_token_names_its_architecture_and_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "task-vma", "--schedule", TOKEN]) == 1
    out = capsys.readouterr().out
    assert out.startswith("task-vma on arm64, v7.0\n") and f"--schedule {TOKEN}\n" in out


def test_a_seed_alone_draws_a_schedule_by_lot(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = set()
    for words in (["--seed", "7"], ["--seed", "7", "--schedule", "random"], ["--seed", "8"], []):
        main(["run", "task-vma", "--json", *words])
        tokens.add(json.loads(capsys.readouterr().out)["token"])
    assert len(tokens) == 3, "the first two are one"


def kemu(*words: str, **kwargs: Any) -> subprocess.Popen[str]:
    """The command as its own process."""
    return subprocess.Popen([sys.executable, "-m", "emu.cli", *words], stderr=subprocess.PIPE, text=True,
                            cwd=BPF.parents[1], **kwargs)


@pytest.mark.parametrize("words", [("profiles",), ("run", "task-vma", "--profile", "v7.0")])
def test_an_output_that_cannot_be_written_is_one_line(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        process = kemu(*words, stdout=full)
        error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (2, "kemu: standard output: No space left on device\n")


def test_a_closed_output_is_one_line() -> None:
    process = kemu("profiles", preexec_fn=lambda: os.close(1))
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (2, "kemu: standard output is closed\n")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    process = kemu("run", "task-vma", "--profile", "v7.0", stdout=write)
    os.close(write)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)


def test_an_interrupt_ends_it_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    waits = tmp_path / "waits.py"
    waits.write_text("import time\ndef scenario(kernel):\n    print('ready', flush=True)\n    time.sleep(60)\n")
    process = kemu("run", str(waits), stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=10)[1], process.returncode) == ("", -signal.SIGINT)


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


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x\0y", ": null bytes: this is no Python source"),
        ("import nosuch\n", ":1: ModuleNotFoundError: No module named 'nosuch'"),
        ("raise OSError('gone')\n", ":1: OSError: gone"),
        ("scenario = 3\n", ": defines no function scenario(kernel)"),
        ("def scenario():\n    pass\n", ": scenario(kernel): too many positional arguments"),
        ("def scenario(kernel):\n\n    kernel.nosuch()\n", ":3: AttributeError: 'Kernel' object has no attribute"),
        ("def scenario(kernel):\n    kernel.load('nosuch.bpf.o')\n", "kemu: nosuch.bpf.o: No such file or directory"),
    ],
)
def test_a_scenario_file_that_is_wrong_is_one_line(
    text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.py"
    path.write_text(text)
    assert main(["run", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kemu: ") and said.count("\n") == 1 and error in said


def test_a_failure_below_a_scenario_file_keeps_its_traceback(tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    path.write_text("def scenario(kernel):\n    kernel.load(3)\n")
    with pytest.raises(TypeError):
        main(["run", str(path)])


def test_an_object_whose_programs_are_all_optional_has_nothing_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(BPF / "iters_task_vma.bpf.o")]) == 2
    assert "nothing to run" in capsys.readouterr().err
