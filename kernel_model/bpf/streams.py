"""BPF streams: what a program, and the kernel on its behalf, says to its standard output and error.

Mirrors kernel/bpf/stream.c: elements are pushed whole, capacity is counted when they are committed and given back
when an element has been read to its end. The per-CPU page allocator behind the elements is left out: memory for
them never runs out before the capacity does. A report is built as a stage and committed at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kernel_model.kcall import kcall
from kernel_model.vsprintf import MAX_BPRINTF_BUF, Environment, vsprintf

BPF_STDOUT, BPF_STDERR = 1, 2
BPF_STREAM_MAX_CAPACITY = 100_000
ENOENT, ENOMEM, EINVAL, ENOSPC = 2, 12, 22, 28


@dataclass(slots=True)
class Stream:
    """One struct bpf_stream; texts are bytes as the program wrote them."""

    _elements: deque[bytes] = field(default_factory=deque)
    _consumed: int = 0  # of the first element
    _capacity: int = 0

    def consume_capacity(self, length: int) -> int:
        """0, or -ENOSPC where `length` more bytes would reach BPF_STREAM_MAX_CAPACITY."""
        if self._capacity + length >= BPF_STREAM_MAX_CAPACITY:
            return -ENOSPC
        self._capacity += length
        return 0

    def push(self, data: bytes) -> int:
        """bpf_stream_push_str(): 0, -ENOSPC, or -ENOMEM for an element over 1024 bytes."""
        error = self.consume_capacity(len(data))
        if error:
            return error
        if len(data) > MAX_BPRINTF_BUF:
            return -ENOMEM
        self._elements.append(data)
        return 0

    def append(self, elements: list[bytes]) -> None:
        """Elements whose capacity is already accounted for (bpf_stream_stage_commit())."""
        self._elements.extend(elements)

    def read(self, length: int) -> bytes:
        """bpf_stream_read(): up to `length` bytes, consumed; empty where there are none."""
        out = bytearray()
        elements = self._elements
        while elements and not self._consumed and len(out) + len(elements[0]) <= length:
            first = elements.popleft()  # whole elements, which is nearly all of them
            out += first
            self._capacity -= len(first)
        while elements and len(out) < length:
            first = elements[0]
            take = first[self._consumed : self._consumed + length - len(out)]
            out += take
            self._consumed += len(take)
            if self._consumed == len(first):
                elements.popleft()
                self._consumed = 0
                self._capacity -= len(first)
        return bytes(out)


@dataclass(slots=True)
class ProgStreams:
    """The two streams of a main program and its count of kernel-origin reports."""

    stdout: Stream = field(default_factory=Stream)
    stderr: Stream = field(default_factory=Stream)

    def get(self, stream_id: int) -> Stream | None:
        """bpf_stream_get(): None for an id that is neither BPF_STDOUT nor BPF_STDERR."""
        return {BPF_STDOUT: self.stdout, BPF_STDERR: self.stderr}.get(stream_id)


# guest address of a return address -> (source line, file name, line number), None where there is no line info
FileLine = Callable[[int], "tuple[str, str, int] | None"]


@dataclass(slots=True)
class BpfStreams:
    """The bpf_stream_*() functions that guest text calls; stages are known by their guest address."""

    env: Environment
    read_words: Callable[[int, int], Sequence[int]]  # (address, count) -> 64-bit words
    file_line: FileLine
    find_prog: Callable[[int], ProgStreams | None]  # struct bpf_prog * -> its main program's streams
    current: Callable[[], tuple[int, int, int, str]]  # (cpu, euid, pid, comm)
    _stages: dict[int, list[bytes]] = field(default_factory=dict)
    _formats: dict[int, str] = field(default_factory=dict)  # by address: constants of kernel text, which never change
    _frames: dict[int, bytes] = field(default_factory=dict)  # ip -> its lines: a fault storm repeats the same ones

    def forget_frames(self) -> None:
        """Program text was added or removed: cached lines of frames may be wrong."""
        self._frames.clear()

    @kcall
    def bpf_stream_stage_init(self, ss: int) -> None:
        """Start a stage."""
        self._stages[ss] = []

    @kcall
    def bpf_stream_stage_free(self, ss: int) -> None:
        """Drop a stage, committed or not."""
        self._stages.pop(ss, None)

    @kcall
    def bpf_stream_stage_printk(self, ss: int, fmt: int, a: int, b: int, c: int, d: int) -> int:
        """Add one element: 0, or -ENOMEM over 1024 bytes. At most four arguments reach a kcall."""
        text = self._formats.get(fmt)
        if text is None:
            raw = self.env.read_string(fmt)
            if raw is None:
                return -EINVAL
            text = self._formats[fmt] = raw.decode("latin-1")
        return self._add(ss, vsprintf(text, (a, b, c, d), self.env).encode("latin-1"))

    def _add(self, ss: int, data: bytes) -> int:
        if len(data) > MAX_BPRINTF_BUF:
            return -ENOMEM
        self._stages[ss].append(data)
        return 0

    @kcall
    def bpf_stream_stage_print_task(self, ss: int) -> int:
        """The `CPU: UID: PID: Comm:` and `Call trace:` elements of bpf_stream_stage_dump_stack()."""
        cpu, uid, pid, comm = self.current()
        self._add(ss, f"CPU: {cpu} UID: {uid} PID: {pid} Comm: {comm}\n".encode("latin-1"))
        return self._add(ss, b"Call trace:\n")

    @kcall
    def bpf_stream_stage_print_frames(self, ss: int, ips: int, count: int) -> int:
        """dump_stack_cb() for `count` return addresses in guest memory at `ips`: symbol, and source line for BPF."""
        stage = self._stages[ss]
        for ip in self.read_words(ips, count):
            text = self._frames.get(ip)
            if text is None:
                text = self._frames[ip] = self._frame(ip)
            if len(text) > MAX_BPRINTF_BUF:
                return -ENOMEM
            stage.append(text)
        return 0

    def _frame(self, ip: int) -> bytes:
        text = f"{self.env.symbol(ip)}\n"
        found = self.file_line(ip)
        if found is not None:
            line, file, number = found
            text += f"  {line} @ {file}:{number}\n"
        return text.encode("latin-1", "replace")

    @kcall
    def bpf_stream_stage_commit(self, ss: int, prog: int, stream_id: int) -> int:
        """0; -EINVAL for a bad stream id or program; -ENOSPC drops the report."""
        streams = self.find_prog(prog)
        stream = streams.get(stream_id) if streams is not None else None
        if stream is None:
            return -EINVAL
        elements = self._stages[ss]
        error = stream.consume_capacity(sum(map(len, elements)))
        if error:
            return error
        stream.append(elements)
        self._stages[ss] = []
        return 0
