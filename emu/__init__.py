"""kemu: a virtual Linux kernel on emulated CPUs. `emu.boot()` is where to begin."""

from emu.kernel import Kernel, UserResult, boot

__all__ = ["Kernel", "UserResult", "boot"]
