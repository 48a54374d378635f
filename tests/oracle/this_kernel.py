"""Whether this machine's kernel can be asked what Linux does."""

import platform


def unfit() -> str:
    """Why not: it runs no x86-64 programs, or is older than 6.16, with which the model's mm agrees. Else empty."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"no Linux on x86-64: {platform.system()} {platform.machine()}"
    release = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2])
    return f"Linux {platform.release()} is older than 6.16" if release < (6, 16) else ""
