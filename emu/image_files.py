"""The built guest files: kernel images and user programs, each read once."""

from __future__ import annotations

import functools
from pathlib import Path

import images
from kernel_model.errors import KemuError
from kernel_model.image import Image, load_image

IMAGES = Path(images.__file__).parent

_load = functools.cache(load_image)  # images never change while we run


def kernel_image(arch_name: str) -> Image:
    """images/vmlinux.<arch>. Raises ObjectFileError."""
    return _load(IMAGES / f"vmlinux.{arch_name}")


def user_image(program: str, arch_name: str) -> Image:
    """images/user/<program>.<arch>. Raises KemuError where there is none."""
    path = IMAGES / "user" / f"{program}.{arch_name}"
    if not path.exists():
        raise KemuError(f"no user program {program!r}: images/user has no {path.name}")
    return _load(path)
