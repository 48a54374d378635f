"""Tables for people: coloured in a terminal, plain columns when piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO | None = None) -> None:
    """Print `rows` under `headers`, columns as wide as their widest cell, to `out` (standard output)."""
    out = out or sys.stdout
    if out.isatty():
        from rich.console import Console
        from rich.table import Table

        drawn = Table(*headers, box=None, header_style="bold")
        for row in rows:
            drawn.add_row(*row)
        Console(file=out).print(drawn)
        return
    widths = [max(len(str(row[i])) for row in [headers, *rows]) for i in range(len(headers))]
    for row in [headers, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write(line.rstrip() + "\n")
