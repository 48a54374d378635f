"""The README's console blocks as (command, shown output) pairs. Run as a script it fills the outputs in anew."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"```console\n(.*?)```", re.S)


def blocks(text: str) -> list[tuple[str, str]]:
    """(command line without `$ `, output) of every command in the text's console blocks."""
    found = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def run(command: str) -> tuple[str, int]:
    """Output and exit status of one shown command, run in the repository's root; `| head -N` may follow it."""
    command, _, head = command.partition(" | head -")
    words = shlex.split(command)
    if words[0] == "kemu":
        words = [sys.executable, "-m", "emu.cli", *words[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    output = done.stdout + done.stderr
    return "".join(output.splitlines(keepends=True)[: int(head)]) if head else output, done.returncode


def main() -> None:
    """Rewrite README.md with what its commands print now."""
    readme = ROOT / "README.md"

    def fill(match: re.Match[str]) -> str:
        parts = []
        for part in re.split(r"^\$ ", match[1], flags=re.M)[1:]:
            command = part.partition("\n")[0]
            output, status = run(command)
            if status not in (0, 1):
                raise SystemExit(f"{command}: status {status}\n{output}")
            parts.append(f"$ {command}\n{output}")
        return "```console\n" + "".join(parts) + "```"

    readme.write_text(_BLOCK.sub(fill, readme.read_text()))


if __name__ == "__main__":
    main()
