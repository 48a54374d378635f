"""What a CPU is: one package per architecture, facts only; no policy and no Unicorn."""

from __future__ import annotations

import importlib

from arch.interface import Arch

ARCHES = ("x86_64", "arm64")


def get(name: str) -> Arch:
    """The architecture called `name` ("x86_64" or "arm64"); ValueError names the known ones."""
    if name not in ARCHES:
        raise ValueError(f"unknown architecture {name!r}: known are {', '.join(ARCHES)}")
    found: Arch = importlib.import_module(f"arch.{name}").ARCH
    return found
