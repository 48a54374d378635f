"""bpf(2) of this machine, for loading programs only: what the real verifier says of instructions."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_NR_BPF = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine)
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_SYSCALL = 31
BPF_F_SLEEPABLE = 1 << 4


def load(code: bytes, log_level: int = 2) -> tuple[int, str]:
    """(errno or 0, verifier log) of loading `code` as a sleepable program of type syscall."""
    libc = ctypes.CDLL(None, use_errno=True)
    log = ctypes.create_string_buffer(1 << 20)
    insns = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack(
        "<IIQQIIQII", BPF_PROG_TYPE_SYSCALL, len(code) // 8, ctypes.addressof(insns), ctypes.addressof(license_),
        log_level, len(log), ctypes.addressof(log), 0, BPF_F_SLEEPABLE,
    ).ljust(128, b"\0")
    fd = libc.syscall(_NR_BPF, BPF_PROG_LOAD, attr, 128)
    error = 0 if fd >= 0 else ctypes.get_errno()
    if fd >= 0:
        os.close(fd)
    return error, log.value.decode()


def unavailable() -> str | None:
    """Why this machine cannot answer, None where it can."""
    if _NR_BPF is None:
        return f"no bpf(2) number for {os.uname().machine}"
    if os.geteuid() != 0:
        return "bpf(2) needs root"
    if not os.uname().release.startswith("6.18."):
        return f"the texts compared are those of Linux 6.18, this is {os.uname().release}"
    try:
        error, _ = load(struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0))
    except OSError as problem:
        return str(problem)
    return f"bpf(2) answers {errno.errorcode.get(error, error)}" if error else None
