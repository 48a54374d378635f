"""A user's scenario: a Python file with a function scenario(kernel), run by `kemu run FILE.py`.

Mirrors no Linux file. What is wrong with the file, or goes wrong in its own lines, is bad input: one error that names
the line. What goes wrong below, in kemu itself, is kemu's bug and keeps its traceback.
"""

from __future__ import annotations

import inspect
import runpy
import traceback
from collections.abc import Callable
from pathlib import Path

from emu.kernel import Kernel
from kernel_model.errors import KemuError


def run(path: Path, make: Callable[[], Kernel]) -> bool:
    """Run the file's scenario on the kernel that `make` boots; its verdict, true where it returns None.

    KemuError where the file cannot be read or compiled, has no such function, or raises an exception of its own.
    """
    if not path.is_file():
        raise KemuError(f"{path}: no such file")
    try:
        if b"\0" in path.read_bytes():  # which error that is differs between Pythons
            raise KemuError(f"{path}: null bytes: this is no Python source")
    except OSError as error:
        raise KemuError(f"{path}: {error.strerror}") from None
    try:
        names = runpy.run_path(str(path))
    except SyntaxError as error:
        where = f"{path}:{error.lineno}" if error.lineno else str(path)
        raise KemuError(f"{where}: {error.msg}") from None
    except Exception as error:
        raise _own(path, error) from error
    scenario = names.get("scenario")
    if not callable(scenario):
        raise KemuError(f"{path}: defines no function scenario(kernel)")
    try:
        inspect.signature(scenario).bind(None)
    except TypeError as error:
        raise KemuError(f"{path}: scenario(kernel): {error}") from None
    kernel = make()
    try:
        verdict = scenario(kernel)
    except Exception as error:
        raise _own(path, error) from error
    return verdict is None or bool(verdict)


def _own(path: Path, error: Exception) -> Exception:
    """A KemuError that names the line where the file itself raised `error`; `error` where something else did."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    missing = isinstance(error, ImportError) and any(frame.filename == str(path) for frame in frames)
    if isinstance(error, KemuError) or last.filename != str(path) and not missing:
        return error
    line = next(frame.lineno for frame in reversed(frames) if frame.filename == str(path))
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return KemuError(f"{path}:{line}: {what}")
