"""BPF core: programs by address, helpers, and the objects of one kernel's BPF subsystem.

Mirrors kernel/bpf/core.c (bpf_prog_ksym_find), syscall.c (program file descriptors) and the helpers of
kernel/bpf/helpers.c and kernel/trace/bpf_trace.c that need no guest text.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Protocol

from kernel_model.bpf.arena import ArenaMap
from kernel_model.bpf.maps.array import ArrayMap, array_map_alloc_check, elem_size, index_mask
from kernel_model.bpf.maps.base import Map, Maps, unsupported
from kernel_model.bpf.maps.hash import HashMap, htab_map_alloc_check
from kernel_model.bpf.program import MapSpec, MapType
from kernel_model.bpf.range_tree import RangeTrees
from kernel_model.bpf.streams import BpfStreams, ProgStreams
from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.access import GuestAddressError
from kernel_model.mm.page_alloc import OutOfMemoryError
from kernel_model.sched.requests import Sleeping
from kernel_model.vsprintf import Environment, bprintf_args, vsprintf

EBADF, EINVAL, ENOENT, ENOSYS, ENOMEM = 9, 22, 2, 38, 12


class Host(Protocol):
    """What the BPF subsystem asks of the kernel around it."""

    space: Any
    slab: Any
    kallsyms: Any
    init_mm: Any
    console: Any
    clock: Any
    machine: Any
    objects: Any
    types: Any
    profile: Any
    current_task: Callable[[], Any]


class _Kmalloc:
    """The slab as maps see it."""

    def __init__(self, slab: Any) -> None:
        self._slab = slab

    def kmalloc(self, size: int) -> int:
        """Zeroed memory."""
        return int(self._slab.kzalloc(size, "bpf map element"))

    def kfree(self, va: int) -> None:
        """Give it back."""
        self._slab.kfree(va)


class Bpf:
    """Everything BPF of one kernel."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.maps = Maps(host.space)
        self.range_trees = RangeTrees()
        self.env = Environment(self._string, host.kallsyms.symbol)
        self.streams = BpfStreams(
            self.env, self._words, self.file_line, self._streams_of, self._current,
        )
        self._text: list[tuple[int, int, int]] = []  # (start, end, struct bpf_prog *)
        self._by_fd: dict[int, int] = {}
        self._next_map_id = 1
        self.prog_streams: dict[int, ProgStreams] = {}  # by address of the main struct bpf_prog
        self.lines: Callable[[int], tuple[str, str, int] | None] = lambda ip: None
        # bpf_prog_run_interp, and what gives the struct bpf_prog that the current task interprets
        self.interpreted: tuple[int, Callable[[], int]] = (0, lambda: 0)
        self.interpret: Callable[[int, int], Sleeping] | None = None

    def subsystems(self) -> list[object]:
        """Objects with kcalls."""
        return [self, self.maps, self.range_trees, self.streams]

    # -- surroundings ------------------------------------------------------------------------------------------------

    def _string(self, address: int) -> bytes | None:
        try:
            return bytes(self._host.space.read_cstr(address))
        except GuestAddressError:
            return None

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self._host.space.read(address, 8 * count))

    def file_line(self, ip: int) -> tuple[str, str, int] | None:
        """(source line, file, number) of a BPF return address."""
        return self.lines(ip)

    def _streams_of(self, prog: int) -> ProgStreams | None:
        return self.prog_streams.get(prog)

    def _current(self) -> tuple[int, int, int, str]:
        task = self._host.current_task()
        return self._host.machine.current_cpu, task.uid, task.pid, task.comm

    # -- programs ----------------------------------------------------------------------------------------------------

    def add_text(self, start: int, end: int, prog: int, name: str) -> None:
        """bpf_prog_kallsyms_add(): text of one function; `prog` its struct bpf_prog."""
        self._text.append((start, end, prog))
        self._text.sort()
        self._host.kallsyms.add_bpf(start, end, name)
        self.streams.forget_frames()

    def install_fd(self, fd: int, prog: int) -> None:
        """Make a program reachable by a descriptor number."""
        self._by_fd[fd] = prog

    @kcall
    def bpf_prog_ksym_find(self, ip: int) -> int:
        """struct bpf_prog *bpf_prog_ksym_find(unsigned long addr): the program or subprogram whose text holds ip."""
        index = bisect_right(self._text, (ip, 1 << 64, 0)) - 1
        if index >= 0:
            start, end, prog = self._text[index]
            if start <= ip < end:
                return prog
        entry, running = self.interpreted
        return running() if ip == entry else 0  # bpf_func of every interpreted program

    @kcall
    def bpf_prog_get(self, fd: int) -> int:
        """struct bpf_prog *bpf_prog_get(u32 ufd): -EBADF for a number that is no program."""
        return self._by_fd.get(fd, -EBADF)

    @kcall
    def bpf_sys_other(self, cmd: int, uattr: int, size: int) -> int:
        """bpf(2) commands other than BPF_PROG_TEST_RUN: programs and maps are made from outside."""
        return -EINVAL

    @kcall
    def bpf_prog_run_interp(self, ctx: int, insn: int) -> Sleeping:
        """unsigned int __bpf_prog_run(): interpret the program whose instructions lie at `insn`."""
        if self.interpret is None:
            raise NotModelledError("no interpreter is attached to this kernel")
        return (yield from self.interpret(ctx, insn))

    # -- arena pages -------------------------------------------------------------------------------------------------

    @kcall
    def bpf_map_alloc_pages(self, map: int, nid: int, nr_pages: int, pages: int) -> int:
        """int bpf_map_alloc_pages(): zeroed pages' struct page pointers into the array `pages`; 0 or -ENOMEM."""
        allocator, got = self._host.init_mm.pages, []
        try:
            for _ in range(nr_pages):
                got.append(allocator.alloc_pages(0, f"arena of map at {map:#x}", zero=True))
        except OutOfMemoryError:
            for pfn in got:
                allocator.free_pages(pfn)
            return -ENOMEM
        for index, pfn in enumerate(got):
            self._host.space.write_u64(pages + 8 * index, allocator.pfn_to_page(pfn))
        return 0

    @kcall
    def arena_zap_pages(self, arena: int, uaddr: int, page_cnt: int) -> None:
        """zap_pages(): unmap the range from every process that maps the arena."""
        found = self.maps.at(arena)
        assert isinstance(found, ArenaMap)
        found.zap_pages(uaddr, page_cnt)

    # -- maps --------------------------------------------------------------------------------------------------------

    def create_map(self, spec: MapSpec) -> Map:
        """map_create(). Raises KernelErrno where the kernel refuses, NotModelledError for other map types."""
        host, map_id = self._host, self._next_map_id
        if spec.type == MapType.ARENA:
            new: Map = ArenaMap.create(spec, map_id, host, self.range_trees, host.profile)
        elif spec.type == MapType.ARRAY:
            new = self._create_array(spec, map_id)
        elif spec.type == MapType.HASH:
            htab_map_alloc_check(spec)
            address = host.objects.new("bpf_map")
            new = HashMap(spec, map_id, address, space=host.space, allocator=_Kmalloc(host.slab))
        else:
            raise unsupported(spec)
        view = host.types.view("bpf_map", new.address)
        new.write_struct(view)
        view.name = new.name
        self._next_map_id += 1
        self.maps.add(new)
        return new

    def _create_array(self, spec: MapSpec, map_id: int) -> Map:
        array_map_alloc_check(spec)
        host = self._host
        head = host.types.offsetof("bpf_array", "value")
        address = host.slab.kzalloc(head + spec.max_entries * elem_size(spec), "bpf_array")
        view = host.types.view("bpf_array", address)
        view.elem_size, view.index_mask = elem_size(spec), index_mask(spec.max_entries)
        if spec.initial is not None:
            host.space.write(address + head, spec.initial)
        return ArrayMap(spec, map_id, address, space=host.space, values=address + head)

    # -- helpers -----------------------------------------------------------------------------------------------------

    @kcall
    def bpf_ktime_get_ns(self) -> int:
        """Helper 5."""
        return int(self._host.clock.read())

    @kcall
    def bpf_ktime_get_boot_ns(self) -> int:
        """Helper 125."""
        return int(self._host.clock.read())

    @kcall
    def bpf_jiffies64(self) -> int:
        """Helper 118: HZ is 1000."""
        return 0x1_0000_0000 - 300 * 1000 + int(self._host.clock.read()) // 1_000_000

    @kcall
    def bpf_get_prandom_u32(self) -> int:
        """Helper 7: a fixed sequence, the same in every run."""
        self._seed = (self._seed * 6364136223846793005 + 1442695040888963407) & 0xFFFF_FFFF_FFFF_FFFF
        return self._seed >> 32

    _seed = 0x4B454D55

    @kcall
    def bpf_get_smp_processor_id(self) -> int:
        """Helper 8."""
        return int(self._host.machine.current_cpu)

    @kcall
    def bpf_get_current_pid_tgid(self) -> int:
        """Helper 14."""
        pid = self._host.current_task().pid
        return int(pid << 32 | pid)

    @kcall
    def bpf_get_current_uid_gid(self) -> int:
        """Helper 15."""
        uid = self._host.current_task().uid
        return int(uid << 32 | uid)

    @kcall
    def bpf_get_current_task(self) -> int:
        """Helper 35."""
        return int(self._host.current_task().address)

    @kcall
    def bpf_get_current_comm(self, buf: int, size: int) -> int:
        """Helper 16: always NUL-terminated."""
        comm = self._host.current_task().comm.encode()[: max(size - 1, 0)]
        self._host.space.write(buf, comm.ljust(size, b"\0"))
        return 0

    @kcall
    def bpf_trace_printk(self, fmt: int, fmt_size: int, a: int, b: int, c: int) -> int:
        """Helper 6: into the kernel log, where trace_pipe would show it; the text's length."""
        text = vsprintf(bytes(self._host.space.read_cstr(fmt)).decode("latin-1"), (a, b, c), self.env)
        self._host.console.print("bpf_trace_printk: " + text.rstrip("\n"))
        return len(text)

    @kcall
    def bpf_stream_push_vprintk(self, stream_id: int, fmt: int, args: int, length: int, aux: int) -> int:
        """bpf_stream_vprintk(): -ENOENT for an unknown stream, -EINVAL for bad arguments, else 0."""
        streams = self.prog_streams.get(self._host.space.read_u64(aux + self.aux_prog_offset))
        stream = streams.get(stream_id) if streams is not None else None
        if stream is None:
            return -ENOENT
        if length & 7 or length > 96 or (length and not args):
            return -EINVAL
        values = [self._host.space.read_u64(args + i) for i in range(0, length, 8)]
        text = bytes(self._host.space.read_cstr(fmt)).decode("latin-1")
        error = bprintf_args(text, len(values))
        return error or stream.push(vsprintf(text, values, self.env).encode("latin-1", "replace"))

    aux_prog_offset = 24  # offsetof(struct bpf_prog_aux, prog); set by the loader from BTF
