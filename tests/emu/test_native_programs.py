"""Programs that check what they see, run by the kernel of this machine: what they expect is what Linux does."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

import images

PROGRAMS = Path(images.__file__).parent / "user"
RELEASE = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2]) if os.name == "posix" else ()
FIT = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64") and RELEASE >= (6, 16)


@pytest.mark.skipif(not FIT, reason=f"{platform.system()} {platform.release()} on {platform.machine()}")
@pytest.mark.parametrize("program", ["mappings", "moves", "fork"])
def test_the_real_kernel_agrees(program, tmp_path):
    arch = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    copy = tmp_path / program
    copy.write_bytes((PROGRAMS / f"{program}.{arch}").read_bytes())
    copy.chmod(0o755)
    assert subprocess.run([str(copy)], timeout=30, check=False).returncode == 0
