"""Kernel text under the MMU: nofault reads, exception tables, arena recovery. Both architectures, real exceptions."""

from __future__ import annotations

import re
import struct
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kernel-texts"
RECOVERY = {
    "x86_64": ["page_fault_oops", "kernelmode_fixup_or_oops.constprop.0", "exc_page_fault", "asm_exc_page_fault"],
    "arm64": ["__do_kernel_fault", "do_bad_area", "do_translation_fault", "do_mem_abort", "el1_abort",
              "el1h_64_sync_handler", "el1h_64_sync"],
}  # fmt: skip
EXTABLE = {
    "x86_64": ["kernelmode_fixup_or_oops.constprop.0", "exc_page_fault", "asm_exc_page_fault"],
    "arm64": RECOVERY["arm64"],
}


def test_nofault_series_is_the_golden_kernels(guest):
    """doit("nofault"): what golden.c logs is what the module of the reference kernel logged, line for line."""
    lines = []

    def log(text, ret, value):
        ret -= (ret >> 63) << 64
        text = guest.string(text)
        lines.append(f"golden: {text}: ret {ret}" + (f" dst {value:x}" if " dst " in golden[len(lines)] else ""))

    suffix = "-cpumax" if guest.arch == "arm64" else ""
    golden = (GOLDEN / f"{guest.arch}-6.18.35-nofault{suffix}.txt").read_text().splitlines()
    hole = guest.vmalloc.vmalloc(4096) + 4096
    guest.handlers.update(
        golden_log=log, spurious_kernel_fault=lambda *_: 0,
        golden_address=lambda what: {"vmalloc_hole": hole, "user_page": guest.user_page}[guest.string(what)],
    )  # fmt: skip
    page = guest.vmalloc.vmalloc(4096)
    guest.space.write(page, b"nofault\0")
    assert guest.call("doit", page) == 0
    assert lines == golden


def test_a_bpf_load_that_faults_takes_its_exception_table_entry(arena):
    guest = arena.guest
    if guest.arch == "x86_64":
        fixup, kind = 3 | 80 << 8 | 112 << 16 | 1 << 31, struct.pack("<I", 7 | 16 << 16)
    else:
        fixup, kind = 7 << 27 | 1 << 21 | 0 << 16 | 16, struct.pack("<HH", 1, 0)
    start, table = guest.loader(fixup, kind)
    arena.aux.extable, arena.aux.num_exentries = table, 1
    assert guest.call(start, arena.window + 0x3000) == 0
    assert arena.frames[:-1] == [
        "bpf_stream_stage_dump_stack", "bpf_prog_report_arena_violation", "ex_handler_bpf", "fixup_exception",
        *EXTABLE[guest.arch], "bpf_prog",
    ]  # fmt: skip
    # the handler reports register + offset of the instruction: here the kernel address, 16 further
    address = ((1 << 44) + arena.window + 0x3000 + 16) & (1 << 64) - 1
    assert arena.reports == [f"ERROR: Arena READ access at unmapped address 0x{address:x}"]


def test_kernel_text_that_reads_an_unmapped_arena_page_goes_on_with_scratch(arena):
    guest = arena.guest
    guest.features(arena_scratch=1)
    program = guest.caller("bpf_kfunc_arena_read")
    assert guest.call(program, arena.arena.address, (1 << 44) + 0x2008) == 0
    assert arena.reports == [f"ERROR: Arena READ access at unmapped address 0x{(1 << 44) + 0x2000:x}"]
    assert arena.frames[:-1] == [
        "bpf_stream_stage_dump_stack", "bpf_prog_report_arena_violation", "bpf_arena_handle_page_fault",
        *RECOVERY[guest.arch], "bpf_kfunc_arena_read", "bpf_prog",
    ]  # fmt: skip
    entry = guest.mm.walk(arena.window + 0x2000).entry
    assert guest.mm.pgtable.pa(entry) >> 12 == guest.mm.pages.page_to_pfn(arena.arena.scratch_page)
    # the whole page is there now: no second report
    program = guest.caller("bpf_kfunc_arena_write")
    guest.call(program, arena.arena.address, (1 << 44) + 0x2010, 0x1234)
    program = guest.caller("bpf_kfunc_arena_read")
    assert guest.call(program, arena.arena.address, (1 << 44) + 0x2010) == 0x1234
    assert len(arena.reports) == 1


def test_what_recovery_covers_and_what_not(arena):
    """The window and the half guard behind it, not the half guard before it nor the page beyond."""
    guest = arena.guest
    guest.features(arena_scratch=1)
    program = guest.caller("bpf_kfunc_arena_read_off")
    window_end = 1 << 32
    read = lambda off: arena.dies(program, arena.arena.address, 0, off & (1 << 64) - 1)  # noqa: E731
    assert not read(0)
    assert not read(window_end - 8)
    assert not read(window_end + 0x7FF8)
    assert read(-8)
    assert read(window_end + 0x8000)
    assert len(arena.reports) == 3


def test_without_scratch_the_same_access_oopses(arena):
    guest = arena.guest
    guest.features(arena_scratch=0)
    program = guest.caller("bpf_kfunc_arena_read")
    assert arena.dies(program, arena.arena.address, 0x2000)
    assert arena.reports == []


def test_another_programs_arena_is_not_recovered(arena):
    guest = arena.guest
    guest.features(arena_scratch=1)
    arena.aux.arena = 0
    program = guest.caller("bpf_kfunc_arena_write")
    assert arena.dies(program, arena.arena.address, 0x2000, 1)


def test_a_nofault_read_of_the_arena_fails_and_installs_nothing(arena):
    guest = arena.guest
    guest.features(arena_scratch=1)
    program = guest.caller("bpf_kfunc_arena_read_nofault")
    assert guest.call(program, arena.arena.address, 0x2000) == (1 << 64) - 14
    assert arena.reports == []
    assert not guest.mm.pgtable.present(guest.mm.walk(arena.window + 0x2000).entry)


def _allocate(arena, replace):
    guest = arena.guest
    guest.features(arena_scratch=1, arena_scratch_replace=replace)
    pages = guest.mm.pages
    pfn = pages.alloc_pages(0, "arena page")
    given = []

    def alloc(_map, _nid, count, array):
        assert count == 1
        guest.space.write_u64(array, pages.pfn_to_page(pfn))
        return 0

    guest.handlers.update(
        is_range_tree_set=lambda *_: 0, range_tree_clear=lambda *_: 0, range_tree_set=lambda *_: 0,
        bpf_map_alloc_pages=alloc, __free_page=given.append,
        flush_tlb_kernel_range=lambda *_: guest.cpu.flush_tlb(),
    )  # fmt: skip
    program = guest.caller("bpf_kfunc_arena_read")
    guest.call(program, arena.arena.address, (1 << 44) + 0x2000)
    result = guest.call("bpf_arena_alloc_pages", arena.arena.address, (1 << 44) + 0x2000, 1, (1 << 32) - 1, 0)
    return pfn, result, given


def test_allocation_replaces_scratch(arena):
    """The fix of June 2026: the entry is taken out, invalidated and set anew."""
    pfn, result, given = _allocate(arena, replace=1)
    assert result == (1 << 44) + 0x2000
    assert given == []
    guest = arena.guest
    assert guest.mm.pgtable.pa(guest.mm.walk(arena.window + 0x2000).entry) >> 12 == pfn
    guest.mm.memory.write_u64(pfn << 12, 77)
    program = guest.caller("bpf_kfunc_arena_read")
    read = (program, arena.arena.address, (1 << 44) + 0x2000)
    if guest.arch == "x86_64":
        # flush_tlb_before_set() is empty there: a CPU that has used scratch may go on doing so for a while
        assert guest.call(*read) == 0
        guest.cpu.flush_tlb()
    assert guest.call(*read) == 77


def test_allocation_over_scratch_fails_as_first_merged(arena):
    """Linux kernel commit dc11a4dba246: -EBUSY inside, NULL for the program, the page given back."""
    pfn, result, given = _allocate(arena, replace=0)
    assert result == 0
    assert given == [arena.guest.mm.pages.pfn_to_page(pfn)]


def test_freeing_over_scratch_does_not_free_it(arena):
    guest = arena.guest
    _allocate(arena, replace=0)
    given = []
    guest.handlers.update(__free_page=given.append, arena_zap_pages=lambda *_: 0)
    guest.call("bpf_arena_free_pages", arena.arena.address, (1 << 44) + 0x2000, 1)
    assert given == []
    assert not guest.mm.pgtable.present(guest.mm.walk(arena.window + 0x2000).entry)


def test_a_free_that_may_not_sleep_is_put_off(arena):
    guest = arena.guest
    _allocate(arena, replace=1)
    page = guest.mm.pages.pfn_to_page(guest.mm.pgtable.pa(guest.mm.walk(arena.window + 0x2000).entry) >> 12)
    span, queued, freed = arena.arena.address + 0xC00, [], []
    guest.handlers.update(
        kmalloc_nolock=lambda *_: span, kfree_nolock=freed.append,
        irq_work_claim=lambda work, lazy: queued.append(work),
        schedule_work=queued.append, __free_page=freed.append, arena_zap_pages=lambda *_: 0,
    )  # fmt: skip
    guest.call("bpf_arena_free_pages_non_sleepable", arena.arena.address, (1 << 44) + 0x2000, 1)
    assert (len(queued), freed) == (1, [])
    assert guest.mm.pgtable.present(guest.mm.walk(arena.window + 0x2000).entry)
    for _ in range(2):  # irq_work, then the work that it schedules
        guest.call(guest.space.read_u64(queued[-1]), queued[-1])
    assert len(queued) == 2
    assert freed == [page, span]
    assert not guest.mm.pgtable.present(guest.mm.walk(arena.window + 0x2000).entry)


def test_faulting_functions_have_frames(guest):
    """A stack walk must find a program that called a leaf kfunc: frames come first in every C function of the image."""
    names = ["bpf_kfunc_arena_read", "bpf_kfunc_arena_write", "copy_from_kernel_nofault", "bpf_probe_read_kernel"]
    prologue = {"x86_64": rb"^\x55\x48\x89\xe5", "arm64": rb"^(\xff.{3})?(.{3}[\xa9]){1,4}"}[guest.arch]
    for name in names:
        assert re.match(prologue, guest.space.read(guest.symbols[name], 16), re.S), name
