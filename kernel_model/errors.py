"""What can go wrong, in one family: every error that a person's input or scenario can cause is a KemuError.

The command line turns a KemuError into one line and exit status 2; nothing else may escape as a traceback.
"""

from __future__ import annotations


class KemuError(Exception):
    """Base of all: `str()` is the one line a person reads; it says what, where and why."""


class ObjectFileError(KemuError):
    """An ELF or BTF file that cannot be used; the text names file, section and cause."""


class UnknownProfileError(KemuError):
    """A profile name that names no kernel we know; the text lists those we do."""


class MissingSymbolsError(KemuError):
    """Kernel functions that guest text calls and nobody implements; the text lists them."""


class BudgetExceededError(KemuError):
    """A guest used up its budget of instructions or virtual time."""


class NotModelledError(KemuError):
    """Something Linux has and kemu lacks; the text names it and docs/limitations.md lists it."""


class KernelErrno(KemuError):
    """A kernel operation that failed with -errno where the caller asked for success."""

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(what)
        self.errno = errno
