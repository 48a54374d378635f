"""The kernel log: what dmesg shows.

Mirrors kernel/printk/printk.c without levels, timestamps or a limit: every line is kept, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Console:
    """Lines of the kernel log, oldest first, without newline."""

    lines: list[str] = field(default_factory=list)

    def print(self, *lines: str) -> None:
        """printk(): one or more whole lines."""
        self.lines.extend(lines)

    def text(self) -> str:
        """All of it, a newline after each line."""
        return "".join(line + "\n" for line in self.lines)
