"""What the README shows is what comes out, to the letter."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("readme_commands", Path(__file__).parent / "readme_commands.py")
assert _SPEC and _SPEC.loader
readme = importlib.util.module_from_spec(_SPEC)
sys.modules["readme_commands"] = readme
_SPEC.loader.exec_module(readme)

TEXT = (readme.ROOT / "README.md").read_text()
COMMANDS = readme.blocks(TEXT)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_shown_output_comes_out(command: str, shown: str) -> None:
    output, status = readme.run(command)
    assert output == shown
    assert status in (0, 1), "a command of the README is no bad input"


def test_the_example_is_the_file() -> None:
    example = TEXT.split("```python\n")[1].split("```")[0]
    assert (readme.ROOT / "docs" / "examples" / "scratch.py").read_text() == example
    assert len(example.splitlines()) <= 30
