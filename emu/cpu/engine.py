"""One Unicorn engine over the machine's RAM, driven through raw ctypes calls.

The Python binding costs 6 us per register access; what runs at every trap goes through prototypes of our own. A
callback must never let an exception out (ctypes would swallow it): `guard` keeps it and stops the engine, and
`start` raises it again. Leaves out what needs a C shim: delivery by QEMU's own code.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from unicorn import UC_ARCH_X86, UC_HOOK_BLOCK, UC_HOOK_CODE, UC_HOOK_INTR, UC_MODE_64, UC_PROT_ALL, Uc
from unicorn.unicorn_const import UC_CTL_IO_WRITE, UC_CTL_TB_FLUSH, UC_CTL_TB_REMOVE_CACHE, UC_CTL_TLB_FLUSH
from unicorn.unicorn_py3.unicorn import uclib

from kernel_model.errors import KemuError
from kernel_model.memory import GuestMemory

_CONTEXT_HEADER = 40  # offsetof(struct uc_context, data) on LP64; the size of the data is its first word
_TCG_BUFFER = 32 << 20  # bytes of host address space for translated code

IntrCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
CodeCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
InsnInvalidCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p)
InsnCallback = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p)
MemCallback = ctypes.CFUNCTYPE(
    ctypes.c_bool,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_void_p,
)


class EngineError(KemuError):
    """Unicorn refused something, or the guest did what no real machine survives (triple fault)."""


def _short(name: str, *args: Any) -> Callable[..., int]:
    """A prototype that keeps the interpreter lock: for calls of a microsecond that never call back."""
    prototype = ctypes.PYFUNCTYPE(ctypes.c_int, *args)
    return prototype((name, uclib))  # type: ignore[arg-type]


_P = ctypes.c_void_p
uc_reg_read = _short("uc_reg_read", _P, ctypes.c_int, _P)
uc_reg_write = _short("uc_reg_write", _P, ctypes.c_int, _P)
uc_context_save = _short("uc_context_save", _P, _P)
uc_context_restore = _short("uc_context_restore", _P, _P)
uc_context_alloc = _short("uc_context_alloc", _P, _P)
uc_context_free = _short("uc_context_free", _P)
uc_emu_stop = _short("uc_emu_stop", _P)
_uc_ctl = uclib["uc_ctl"]  # variadic
_uc_ctl.restype = ctypes.c_int
_uc_emu_start = ctypes.CFUNCTYPE(
    ctypes.c_int, _P, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t
)(("uc_emu_start", uclib))
_uc_hook_add = uclib["uc_hook_add"]  # variadic

_WRITE = UC_CTL_IO_WRITE << 30
_TLB_FLUSH = UC_CTL_TLB_FLUSH | _WRITE
_TB_FLUSH = UC_CTL_TB_FLUSH | _WRITE
_TB_REMOVE = UC_CTL_TB_REMOVE_CACHE | 2 << 26 | _WRITE


_ROUNDS = 4  # nested runs that are watched in one engine


@functools.cache
def _stopped_offset() -> int:
    """Where struct uc_struct keeps the flag that a run was stopped.

    A nested uc_emu_start() that was stopped leaves it set, and then uc_emu_stop() does nothing: the outer run could
    not be stopped any more. Found by watching the bytes of the struct across nested runs. A pointer that is NULL at
    times may have a byte that looks like the flag, but the flag's neighbours are flags, too. Bytes that were never
    written may look like anything; so several engines are asked, all alive at once, for the next one would else get
    the memory of the last one, with the same chance bytes in it.
    """
    engines = [_watched_engine()]
    found = _flag_candidates(engines[0])
    while len(found) > 1 and len(engines) < 32:
        engines.append(_watched_engine())
        found &= _flag_candidates(engines[-1])
    if len(found) != 1:
        known = "this Unicorn is not the one kemu knows (2.1.4)"
        raise EngineError(f"{known}: flags of a running engine at {sorted(found)}")
    return found.pop()


def _watched_engine() -> Uc:
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    uc.ctl_set_tcg_buffer_size(1 << 20)
    uc.ctl_exits_enabled(True)
    uc.ctl_set_exits([])
    uc.mem_map(0x1000, 0x1000)
    uc.mem_write(0x1000, b"\x90\x90\xf4\xf4" * 0x400)  # nop nop hlt hlt
    return uc


def _flag_candidates(uc: Uc) -> set[int]:
    """Offsets of the bytes of an engine's struct uc_struct that are 1 after every run, nested or not, and 0 in one, and
    that lie in words of nothing but zeroes and ones."""
    handle = uc._uch.value if hasattr(uc._uch, "value") else uc._uch
    seen: list[bytes] = []

    def look() -> None:
        seen.append(ctypes.string_at(handle, 2048))

    def hook(_uc: Uc, _address: int, _size: int, _user: object) -> None:
        look()
        uc.emu_start(0x1800, 0, 0, 2)
        look()

    uc.emu_start(0x1800, 0, 0, 2)
    look()
    uc.hook_add(UC_HOOK_CODE, hook, begin=0x1001, end=0x1001)
    uc.ctl_flush_tb()
    for _ in range(_ROUNDS):
        uc.emu_start(0x1000, 0)
        look()
    expected = (1, *(0, 1, 1) * _ROUNDS)
    words = {at for at in range(0, 2048, 8) if all(byte < 2 for state in seen for byte in state[at : at + 8])}
    return {i for i in range(2048) if i & -8 in words and tuple(state[i] for state in seen) == expected}


class Engine:
    """The engine and one scratch context whose bytes are views on the saved CPU state.

    `bytes`, `d` and `q` see the state as bytes, 32-bit and 64-bit words, after `save()` and until `restore()`.
    """

    def __init__(self, arch: int, mode: int, model: int, memory: GuestMemory) -> None:
        self.memory = memory
        uc = self.uc = Uc(arch, mode, model)
        uc.ctl_set_tcg_buffer_size(_TCG_BUFFER)
        uc.mem_map_ptr(memory.base, memory.size, UC_PROT_ALL, memory.host_address)
        uc.ctl_exits_enabled(True)  # no exit addresses: 0 is an address like any other
        uc.ctl_set_exits([])
        self.handle = ctypes.c_void_p(uc._uch.value if hasattr(uc._uch, "value") else uc._uch)
        self._stopped = ctypes.c_bool.from_address((self.handle.value or 0) + _stopped_offset())
        pointer = ctypes.c_void_p()
        if uc_context_alloc(self.handle, ctypes.byref(pointer)) or not pointer.value:
            raise EngineError("Unicorn gave no context")
        self.context = pointer
        size = ctypes.c_size_t.from_address(pointer.value).value
        uc_context_save(self.handle, pointer)
        raw = (ctypes.c_ubyte * (size & ~7)).from_address(pointer.value + _CONTEXT_HEADER)
        self.size = size & ~7
        self.bytes = memoryview(raw).cast("B")
        self.d = self.bytes.cast("I")
        self.q = self.bytes.cast("Q")
        self._word = ctypes.c_uint64()
        self._word_ref = ctypes.byref(self._word)
        self._error: BaseException | None = None
        self._counted = False
        self._stops: list[int] = []  # addresses that end the innermost start() first
        self._stop_hooks: set[int] = set()
        self._keep: list[Any] = []  # callbacks must outlive the engine

    # -- state -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Copy the CPU's state into the context."""
        uc_context_save(self.handle, self.context)

    def restore(self) -> None:
        """Copy the context into the CPU."""
        uc_context_restore(self.handle, self.context)

    def snapshot(self) -> bytes:
        """The whole CPU state, opaque: registers and system registers, not TLB or translated code."""
        uc_context_save(self.handle, self.context)
        return bytes(self.bytes)

    def resume(self, state: bytes) -> None:
        """Put a snapshot() back."""
        self.bytes[:] = state
        uc_context_restore(self.handle, self.context)

    def find(self, pattern: bytes) -> int:
        """Offset of `pattern` in the saved state; it must be there exactly once."""
        self.save()
        state = bytes(self.bytes)
        if state.count(pattern) != 1:
            raise EngineError(f"cannot locate CPU state: {state.count(pattern)} places hold {pattern.hex()}")
        return state.index(pattern)

    def read(self, register: int) -> int:
        """One register of at most 64 bits."""
        self._word.value = 0
        uc_reg_read(self.handle, register, self._word_ref)
        return self._word.value

    def write(self, register: int, value: int) -> None:
        """Set one register of at most 64 bits."""
        self._word.value = value
        uc_reg_write(self.handle, register, self._word_ref)

    # -- caches ------------------------------------------------------------------------------------------------------

    def flush_tlb(self) -> None:
        """Forget all address translations."""
        _uc_ctl(self.handle, ctypes.c_int(_TLB_FLUSH))

    def flush_code(self) -> None:
        """Forget all translated code."""
        _uc_ctl(self.handle, ctypes.c_int(_TB_FLUSH))

    def remove_code(self, start: int, end: int) -> None:
        """Forget translated code of mapped virtual addresses [start, end)."""
        _uc_ctl(self.handle, ctypes.c_int(_TB_REMOVE), ctypes.c_uint64(start), ctypes.c_uint64(end))

    # -- hooks -------------------------------------------------------------------------------------------------------

    def _add(self, kind: int, callback: Any, begin: int, end: int, *extra: Any) -> int:
        handle = ctypes.c_size_t()
        self._keep.append(callback)
        code = _uc_hook_add(
            self.handle,
            ctypes.byref(handle),
            ctypes.c_int(kind),
            ctypes.cast(callback, ctypes.c_void_p),
            ctypes.c_void_p(),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
            *extra,
        )
        if code:
            raise EngineError(f"Unicorn refused a hook of kind {kind} (error {code})")
        return handle.value

    def hook_interrupts(self, function: Callable[[int], None]) -> None:
        """Call function(number) at every exception; it must leave the CPU where the guest goes on."""

        def callback(_uc: int, number: int, _user: int) -> None:
            try:
                function(number)
            except BaseException as error:  # noqa: BLE001 - carried over the C frames, raised again by start()
                self.stop(error)

        self._add(UC_HOOK_INTR, IntrCallback(callback), 1, 0)

    def hook_address(self, address: int, function: Callable[[], None]) -> None:
        """Call function() whenever the instruction at `address` is about to execute."""

        def callback(_uc: int, _address: int, _size: int, _user: int) -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - carried over the C frames, raised again by start()
                self.stop(error)

        self._add(UC_HOOK_CODE, CodeCallback(callback), address, address)

    def hook_blocks(self, begin: int, end: int, function: Callable[[], None]) -> None:
        """Call function() before every block of code that begins in [begin, end]; it must not raise."""

        def callback(_uc: int, _address: int, _size: int, _user: int) -> None:
            function()

        self._add(UC_HOOK_BLOCK, CodeCallback(callback), begin, end)

    # -- running -----------------------------------------------------------------------------------------------------

    def stop(self, error: BaseException | None = None) -> None:
        """Leave start() after the current instruction; `error` is raised there."""
        if error is not None and self._error is None:
            self._error = error
        uc_emu_stop(self.handle)

    def _stop_at(self, address: int) -> None:
        """Hook `address` once for good; code translated before the hook does not know it."""
        if address in self._stop_hooks:
            return
        self._stop_hooks.add(address)
        stops, handle = self._stops, self.handle

        def reached() -> None:
            if stops and stops[-1] == address:
                uc_emu_stop(handle)

        self.hook_address(address, reached)
        if self._stops:  # inside a hook: the code that called it must stay
            self.remove_code(address, address + 4)
        else:
            self.flush_code()

    def start(self, pc: int, count: int = 0, until: int = 0) -> None:
        """Run from `pc` until something stops the engine. Calls may nest (from a hook).

        `count` > 0 stops after so many instructions (and is some 30 times slower); `until` > 0 stops before the
        instruction at that address. EngineError when Unicorn itself gives up.
        """
        if until:
            self._stop_at(until)
        if self._counted != (count > 0) and not self._stops:  # translated code either counts or does not
            self._counted = count > 0
            self.flush_code()
        outer, self._error = self._error, None
        self._stops.append(until)
        code = _uc_emu_start(self.handle, pc, 0, 0, count)
        self._stops.pop()
        if self._stops:
            self._stopped.value = False  # the outer run goes on and must hear stop() again
        error, self._error = self._error, outer
        if error is not None:
            raise error
        if code:
            raise EngineError(f"the guest did something a CPU cannot do: {self.uc_strerror(code)}")

    @staticmethod
    def uc_strerror(code: int) -> str:
        """Unicorn's words for an error code."""
        text = uclib.uc_strerror
        text.restype = ctypes.c_char_p
        found: bytes = text(code)
        return found.decode()

    def close(self) -> None:
        """Free the context; the engine goes with its last reference."""
        if self.context.value:
            uc_context_free(self.context)
            self.context = ctypes.c_void_p()
