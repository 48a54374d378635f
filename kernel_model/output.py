"""What programs print: the reader's end of the pipe that their descriptors 1 and 2 lead to.

Mirrors the far side of fs/pipe.c; the near side is guest text (images/kernel/fs/pipe.c). One pipe for everybody, as
with a shell's `2>&1`.
"""

from __future__ import annotations

from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace


class Output:
    """Bytes in the order in which they were written, by whomever."""

    def __init__(self, space: KernelSpace) -> None:
        self._space = space
        self._taken = bytearray()

    @kcall
    def pipe_push(self, buf: int, count: int) -> None:
        """void pipe_push(const char *buf, size_t count)"""
        self._taken += self._space.read(buf, count)

    def take(self) -> bytes:
        """What was written since this was last asked."""
        taken = bytes(self._taken)
        self._taken.clear()
        return taken
