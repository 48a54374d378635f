"""Arena pointers in kernel hands: what a profile makes of each access, and what becomes of the pages afterwards.

The program is images/bpf/arena_oob.bpf.c. Behaviour: kernel/bpf/arena.c after Linux kernel commit dc11a4dba246
("bpf: Recover arena kernel faults with scratch page") and its fix of June 2026; before it, every kernel access to an
unmapped arena page is an oops.
"""

from __future__ import annotations

import struct

from emu.image_files import IMAGES
from emu.kernel import Kernel, LoadedObject, RunResult, boot
from emu.scenarios.base import Outcome, Row, ScenarioResult
from kernel_model.bpf.arena import ArenaMap

NAME = "arena-oob"
SUMMARY = "kernel text and BPF programs touch arena memory inside, outside and around what is allocated"

STEPS = (
    ("inside", "kfunc writes and reads an allocated page"),
    ("unallocated_read", "kfunc reads a page nobody allocated"),
    ("unallocated_write", "kfunc writes to one"),
    ("from_subprog", "the same, called from a subprogram"),
    ("upper_guard", "kfunc runs up to 32 KiB over the window's end"),
    ("below", "kfunc reads in front of the window"),
    ("beyond", "kfunc reads behind the upper half guard"),
    ("foreign", "kfunc reads another program's arena"),
    ("nofault", "kfunc uses copy_from_kernel_nofault()"),
    ("own_access", "the program's own instructions touch unallocated pages"),
    ("allocate_scratched", "bpf_arena_alloc_pages() over a touched page"),
    ("free_scratched", "bpf_arena_free_pages() over touched pages"),
)


def _outcome(name: str, result: RunResult, values: list[int]) -> tuple[Outcome, str]:
    reports = result.stderr.count("ERROR: Arena")
    if result.oops:
        first = result.dmesg.splitlines()[0]
        return Outcome.OOPS, first
    if name == "nofault":
        return Outcome.OK, f"returns {values[0]}, nothing is installed"
    if name == "own_access":
        return Outcome.FIXUP, f"{reports} reports, load gives {values[0]}, store is dropped"
    if name == "allocate_scratched":
        how = "a real page replaces scratch" if values[0] else "allocation fails (-EBUSY inside)"
        return (Outcome.RECOVERED if values[0] else Outcome.REFUSED), how
    if reports:
        return Outcome.RECOVERED, f"{reports} report(s), the access is retried on the scratch page"
    return Outcome.OK, f"reads {values[0]:#x}"


def _step(kernel: Kernel, loaded: LoadedObject, name: str, what: str) -> Row:
    loaded.write("res", bytes(64))
    result = kernel.run(loaded.prog(name))
    outcome, detail = _outcome(name, result, loaded.read_longs("res"))
    return Row(name, what, outcome, detail, result.stderr, result.dmesg)


def _user_access(kernel: Kernel, loaded: LoadedObject) -> Row:
    arena = loaded.map("arena")
    assert isinstance(arena, ArenaMap)
    kernel.run(loaded.prog("scratch_for_user"))
    ended = kernel.touch(arena.user_vm_start + 20 * 4096, arena)
    what = "user space reads a page that kernel text touched"
    if ended.signal is not None:
        return Row("scratch_for_user", what, Outcome.SIGNAL, str(ended.signal), "", ended.dmesg)
    return Row("scratch_for_user", what, Outcome.OK, "a new page is faulted in", "", ended.dmesg)


def run(arch: str, profile: str, engine: str = "jit") -> ScenarioResult:
    """Every step on one kernel; then the maps are destroyed and the page allocator's books are checked."""
    kernel = boot(arch, profile)
    kernel.insmod("bpf_testmod")
    pages = kernel.init_mm.pages
    loaded = kernel.load(IMAGES / "bpf" / "arena_oob.bpf.o", engine)
    other = kernel.load(IMAGES / "bpf" / "arena_other.bpf.o", engine)
    kernel.run(other.prog("where"))
    foreign = int.from_bytes(other.read("kern_vm_start"), "little") + 0x3000
    loaded.write("foreign_kaddr", struct.pack("<Q", foreign))
    rows = [_step(kernel, loaded, name, what) for name, what in STEPS]
    rows.append(_user_access(kernel, loaded))
    kernel.free(loaded)
    kernel.free(other)
    left = {owner: count for owner, count in pages.usage().items() if owner.startswith(("arena of", "scratch page"))}
    detail = "every page came back, none twice" if not left else f"pages left: {left}"
    outcome = Outcome.OK if not left else Outcome.FAILED
    rows.append(Row("destroy", "the maps are destroyed", outcome, detail, "", ""))
    return ScenarioResult(NAME, arch, profile, rows)
