"""bpf(2) of this machine: load programs, run them once, read back what the kernel made of them.

Attaches nothing; every descriptor is closed by whoever loaded it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

_NR_BPF = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine)
_PROG_LOAD, _PROG_TEST_RUN, _OBJ_GET_INFO_BY_FD, _BTF_LOAD = 5, 10, 15, 18
_PROG_TYPE_SYSCALL, _F_SLEEPABLE = 31, 1 << 4
_ATTR_SIZE, _INFO_SIZE = 160, 256
_INFO = struct.Struct("<II8sIIQQ")  # struct bpf_prog_info up to xlated_prog_insns
_LOAD = struct.Struct("<IIQQIIQII16sIIIIQIIQII")  # union bpf_attr of BPF_PROG_LOAD up to attach_btf_id


@dataclass(frozen=True, slots=True)
class Kind:
    """What is loaded: program type, BPF_F_SLEEPABLE, what it will attach to."""

    type: int = _PROG_TYPE_SYSCALL
    sleepable: bool = True
    attach_type: int = 0
    attach_btf_id: int = 0


@dataclass(frozen=True, slots=True)
class Functions:
    """The program's own types and its functions: BTF as bytes, (first instruction, BTF id) of each."""

    btf: bytes
    infos: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class ProgInfo:
    """What BPF_OBJ_GET_INFO_BY_FD says: `tag` in hexadecimal, machine code and rewritten instructions as bytes."""

    tag: str
    jited: bytes
    xlated: bytes


def _bpf(command: int, attr: bytes) -> tuple[int, bytes]:
    """(descriptor or 0, the attributes after the call). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attr.ljust(_ATTR_SIZE, b"\0"), _ATTR_SIZE)
    result = libc.syscall(_NR_BPF, command, buffer, _ATTR_SIZE)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result, buffer.raw


def load_btf(data: bytes) -> int:
    """Descriptor of BTF. Raises OSError with the kernel's log."""
    blob, log = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(1 << 16)
    attr = struct.pack("<QQIII", ctypes.addressof(blob), ctypes.addressof(log), len(data), len(log), 1)
    try:
        return _bpf(_BTF_LOAD, attr)[0]
    except OSError as error:
        raise OSError(error.errno, log.value.decode()) from None


def load(
    code: bytes, log_level: int = 0, kind: Kind | None = None, functions: Functions | None = None
) -> tuple[int, int, str]:
    """(descriptor or -1, errno or 0, verifier log) of a GPL program, by default a sleepable one of type syscall."""
    kind = kind or Kind()
    btf = load_btf(functions.btf) if functions else 0
    pairs = functions.infos if functions else ()
    infos = ctypes.create_string_buffer(b"".join(struct.pack("<II", *pair) for pair in pairs), 8 * len(pairs) or 1)
    log = ctypes.create_string_buffer(1 << 20)
    insns, license_ = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    attr = _LOAD.pack(
        kind.type, len(code) // 8, ctypes.addressof(insns), ctypes.addressof(license_), log_level,
        len(log) if log_level else 0, ctypes.addressof(log) if log_level else 0, 0,
        _F_SLEEPABLE if kind.sleepable else 0, b"", 0, kind.attach_type, btf, 8 if pairs else 0,
        ctypes.addressof(infos) if pairs else 0, len(pairs), 0, 0, 0, kind.attach_btf_id,
    )
    try:
        fd, _ = _bpf(_PROG_LOAD, attr)
    except OSError as error:
        return -1, error.errno or errno.EINVAL, log.value.decode()
    finally:
        if functions:
            os.close(btf)
    return fd, 0, log.value.decode()


def verdict(
    code: bytes, log_level: int = 2, kind: Kind | None = None, functions: Functions | None = None
) -> tuple[int, str]:
    """(errno or 0, verifier log) of loading a program that nobody wants to keep."""
    fd, error, log = load(code, log_level, kind, functions)
    if fd >= 0:
        os.close(fd)
    return error, log


def test_run(fd: int, context: bytes) -> tuple[int, bytes]:
    """(R0's low half, the context afterwards) of one run. Raises OSError."""
    buffer = ctypes.create_string_buffer(context, len(context))
    attr = struct.pack("<IIIIQQIIIIQQ", fd, 0, 0, 0, 0, 0, 0, 0, len(context), 0, ctypes.addressof(buffer), 0)
    _, after = _bpf(_PROG_TEST_RUN, attr)
    return struct.unpack_from("<I", after, 4)[0], buffer.raw


def prog_info(fd: int) -> ProgInfo:
    """Tag, machine code and xlated instructions of a loaded program. Raises OSError."""
    jited, xlated = ctypes.create_string_buffer(1 << 16), ctypes.create_string_buffer(1 << 16)
    info = ctypes.create_string_buffer(_INFO_SIZE)
    _INFO.pack_into(info, 0, 0, 0, b"", len(jited), len(xlated), ctypes.addressof(jited), ctypes.addressof(xlated))
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, _INFO_SIZE, ctypes.addressof(info)))
    _, _, tag, jited_len, xlated_len, _, _ = _INFO.unpack_from(info)
    return ProgInfo(tag.hex(), jited.raw[:jited_len], xlated.raw[:xlated_len])


def unavailable() -> str | None:
    """Why this machine cannot answer, None where it can."""
    if _NR_BPF is None:
        return f"no bpf(2) number for {os.uname().machine}"
    if not os.uname().release.startswith("6.18."):
        return f"what is compared is Linux 6.18, this is {os.uname().release}"
    try:
        error, _ = verdict(struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0), 0)
    except OSError as problem:
        return str(problem)
    return f"bpf(2) answers {errno.errorcode.get(error, error)}" if error else None
