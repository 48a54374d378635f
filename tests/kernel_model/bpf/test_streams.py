"""Streams: order, capacity and the stack dump's lines."""

from kernel_model.bpf.streams import (
    BPF_STDERR,
    BPF_STDOUT,
    EINVAL,
    ENOMEM,
    ENOSPC,
    BpfStreams,
    ProgStreams,
    Stream,
)
from kernel_model.vsprintf import Environment

FORMAT = 0x1000
TEXTS = {FORMAT: b"ERROR: Arena %s access at unmapped address 0x%lx\n", 0x2000: b"READ"}


def make(prog: ProgStreams) -> BpfStreams:
    memory = {0x900: 0x1005, 0x908: 0x2002}
    return BpfStreams(
        env=Environment(TEXTS.get, lambda ip: f"fn{ip >> 12}+0x{ip & 0xFFF:x}/0x40"),
        read_words=lambda at, count: [memory[at + 8 * i] for i in range(count)],
        file_line=lambda ip: ("p[0] = 1;", "a.bpf.c", 7) if ip == 0x2002 else None,
        find_prog=lambda address: prog if address == 0x77 else None,
        current=lambda: (1, 0, 69, "arena_run"),
    )


def test_a_report_is_committed_at_once_and_in_order() -> None:
    prog = ProgStreams()
    streams = make(prog)
    prog.stderr.push(b"before\n")
    streams.bpf_stream_stage_init(0x40)
    assert streams.bpf_stream_stage_printk(0x40, FORMAT, 0x2000, 0x100000001000, 0, 0) == 0
    streams.bpf_stream_stage_print_task(0x40)
    streams.bpf_stream_stage_print_frames(0x40, 0x900, 2)
    assert prog.stderr.read(100) == b"before\n"
    assert streams.bpf_stream_stage_commit(0x40, 0x77, BPF_STDERR) == 0
    streams.bpf_stream_stage_free(0x40)
    assert prog.stderr.read(10_000).decode() == (
        "ERROR: Arena READ access at unmapped address 0x100000001000\n"
        "CPU: 1 UID: 0 PID: 69 Comm: arena_run\nCall trace:\nfn1+0x5/0x40\nfn2+0x2/0x40\n  p[0] = 1; @ a.bpf.c:7\n"
    )
    assert prog.stdout.read(10) == b""


def test_bad_stream_or_program_is_refused() -> None:
    streams = make(ProgStreams())
    streams.bpf_stream_stage_init(0x40)
    assert streams.bpf_stream_stage_commit(0x40, 0x77, 3) == -EINVAL
    assert streams.bpf_stream_stage_commit(0x40, 0x78, BPF_STDOUT) == -EINVAL


def test_capacity_is_what_the_selftest_sees() -> None:
    """stream_exhaust fills with 18-byte lines until -ENOSPC; capacity comes back as whole elements are read."""
    stream, written = Stream(), 0
    while stream.push(b"x" * 18) == 0:
        written += 18
    assert written == 99_990 and stream.push(b"x" * 18) == -ENOSPC
    assert len(stream.read(17)) == 17
    assert stream.push(b"x" * 18) == -ENOSPC
    assert len(stream.read(1)) == 1
    assert stream.push(b"x" * 18) == 0


def test_an_element_is_at_most_1024_bytes() -> None:
    stream = Stream()
    assert stream.push(b"x" * 1024) == 0
    assert stream.push(b"x" * 1025) == -ENOMEM


def test_a_reader_may_stop_inside_an_element() -> None:
    stream = Stream()
    for text in (b"one", b"two", b"three"):
        stream.push(text)
    assert stream.read(5) == b"onetw"
    assert stream.read(3) == b"oth"
    assert stream.read(2) == b"re" and stream.read(9) == b"e" and stream.read(9) == b""
