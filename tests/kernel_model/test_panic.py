"""Taint columns and CPU lines, against lines that real kernels printed."""

from pathlib import Path

import pytest

from kernel_model.panic import Taint, Where, dump_stack_print_info

GOLDEN = Path(__file__).parent.parent / "golden" / "kernel-texts"


@pytest.mark.parametrize(
    ("file", "letters", "where"),
    [
        (
            "x86_64-6.18.35-vmalloc_read.txt",
            "O",
            Where(0, 0, 59, "sh", "6.18.35", "#1", hardware="QEMU Standard PC (i440FX + PIIX, 1996), BIOS "
                  "1.16.2-debian-1.16.2-1 04/01/2014"),
        ),
        ("x86_64-6.18.35-vmalloc_read_null_read.txt", "DO", Where(1, 0, 62, "sh", "6.18.35", "#1")),
        ("arm64-6.18.35-vmalloc_read.txt", "O", Where(0, 0, 43, "sh", "6.18.35", "#2",
                                                      hardware="linux,dummy-virt (DT)")),
    ],
)
def test_cpu_lines_are_the_kernels(file: str, letters: str, where: Where) -> None:
    taint = Taint()
    for letter in letters:
        taint.add(letter)
    text = (GOLDEN / file).read_text()
    for line in dump_stack_print_info(where, taint):
        assert line + "\n" in text, line


def test_not_tainted_has_no_second_line() -> None:
    assert dump_stack_print_info(Where(0, 0, 1, "init", "7.2.0", "#1"), Taint()) == [
        "CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 7.2.0 #1 PREEMPT "
    ]


def test_unknown_taint_letter_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown taint flag 'Q'"):
        Taint().add("Q")
