"""The Arch protocol: what the upper floors may ask of an architecture.

Each of arch/x86_64 and arch/arm64 has the same files: pgtable.py (bits of a page-table entry), traps.py (vectors,
syndromes, what the CPU pushes or latches on an exception), abi.py (registers, calls, pt_regs), bpf_jit.py and
oops.py (how the architecture prints a dead kernel). `ARCH` in each package's __init__ is an `Arch` of them.
Nothing here holds state: memory is reached through `ReadQword`, addresses come in and go out as unsigned ints.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Protocol

from arch.bpf_isa import Insn

ReadQword = Callable[[int], int]  # guest physical address (8-byte aligned) -> unsigned 64-bit value

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT


@dataclass(frozen=True, slots=True)
class Layout:
    """Where Linux puts things, no KASLR. Virtual addresses unless the name says phys; all unsigned 64 bit."""

    phys_base: int  # first byte of RAM
    page_offset: int  # direct map of phys_base (x86-64: of physical 0)
    vmalloc_start: int
    vmalloc_end: int
    vmemmap: int  # struct page of pfn 0 (x86-64) or of phys_base's pfn (arm64)
    kernel_text: int  # _text
    kernel_phys: int  # where _text lies in RAM
    modules_start: int  # modules and BPF JIT images
    modules_end: int
    task_size: int  # first address beyond user space


class Prot(IntFlag):
    """What a mapping allows; the architecture turns it into PTE bits."""

    READ = 1
    WRITE = 2
    EXEC = 4
    USER = 8


@dataclass(frozen=True, slots=True)
class Walk:
    """Result of a page-table walk: every level's (name, entry value, physical address of the entry), outermost
    first, ending at the leaf or at the first entry that is not present; `pa` is None when nothing is mapped."""

    levels: tuple[tuple[str, int, int], ...]
    pa: int | None
    prot: Prot

    @property
    def entry(self) -> int:
        """The last entry that was read."""
        return self.levels[-1][1]


class PageTable(Protocol):
    """Bits and shape of the architecture's page tables (4 KiB pages, four levels)."""

    LEVELS: tuple[tuple[str, int], ...]  # (name, shift), outermost first: ("pgd", 39) ... ("pte", 12)
    TABLE_MASK: int  # an entry of an upper level points to a table where these bits of it
    TABLE_BITS: int  # are these
    PFN_MASK: int  # and the table is where these say
    LINEAR_BLOCKS: bool  # True where the direct map is made of 2 MiB blocks, False: of pages
    SHARED_ROOT: bool  # True where the root of a user mm also holds the kernel's half (x86-64 without PTI)

    def index(self, va: int, shift: int) -> int:
        """Index of `va`'s entry in the table whose entries cover 1 << shift bytes."""
        ...

    def walk(self, read: ReadQword, root: int, va: int) -> Walk:
        """Walk from the table at physical `root`; leaf entries of any level end it."""
        ...

    def translate(self, read: ReadQword, root: int, va: int) -> int | None:
        """walk().pa without the rest: for accesses that happen thousands of times."""
        ...

    def mk_table(self, pa: int, user: bool = False, *, linear: bool = False, early: bool = False) -> int:
        """Entry that points to the next table at physical `pa`; `linear`: below it lies the direct map, `early`:
        the kernel image's tables, which boot code builds."""
        ...

    def mk_leaf(self, pa: int, prot: Prot, shift: int = PAGE_SHIFT, *, linear: bool = False) -> int:
        """Entry that maps the page (or block, by shift 21 or 30) at `pa`, accessed bit set, dirty if writable;
        `linear`: in the direct map."""
        ...

    def mk_special(self, entry: int) -> int:
        """pte_mkspecial(): the page behind this leaf is not reference counted (zero page)."""
        ...

    def special(self, entry: int) -> bool:
        """pte_special()."""
        ...

    def present(self, entry: int) -> bool:
        """pte_present(), without entries of PROT_NONE."""
        ...

    def mk_protnone(self, pa: int) -> int:
        """PAGE_NONE: an entry that keeps the page at `pa` and that the CPU takes for empty."""
        ...

    def protnone(self, entry: int) -> bool:
        """pte_protnone()."""
        ...

    def leaf(self, entry: int, shift: int) -> bool:
        """True where a present entry at this level maps memory instead of pointing to a table."""
        ...

    def pa(self, entry: int) -> int:
        """Physical address that the entry holds, one of PROT_NONE included."""
        ...

    def prot(self, entry: int) -> Prot:
        """What a leaf entry allows."""
        ...

    def is_kernel_va(self, va: int) -> bool:
        """True where the kernel's root (swapper_pg_dir / TTBR1) translates `va`."""
        ...


@dataclass(frozen=True, slots=True)
class JitArena:
    """Constants of the program's arena that the JIT bakes in."""

    kern_vm_start: int
    user_vm_start: int


@dataclass(frozen=True, slots=True)
class JitRequest:
    """One BPF function (main program or subprogram) after the verifier's fixups.

    `call_target(index, insn)` gives the absolute guest address of the function called by the BPF_CALL at `index`:
    helper, kfunc, or subprogram (in early passes a placeholder that is as far away as the final one may be).
    """

    insns: Sequence[Insn]
    stack_depth: int
    is_subprog: bool
    base: int  # guest VA of the image's first byte
    call_target: Callable[[int, Insn], int]
    arena: JitArena | None = None
    timed_may_goto: int = 0  # address of arch_bpf_timed_may_goto: its calls keep R0..R5 (BPF_REG_AX in and out)
    exception_boundary: bool = False
    tail_call_reachable: bool = False


@dataclass(frozen=True, slots=True)
class ExtableEntry:
    """One exception_table_entry of a BPF program, position independent: the runtime places it in guest memory."""

    insn_off: int  # offset of the faulting instruction in the image
    fixup_off: int  # offset in the image of the instruction to resume at
    fixup: int  # x86-64: the `fixup` word as of Sep 2025; arm64: the same with [15:0] left 0 for the runtime
    type_data: int  # x86-64: the `data` word; arm64: type in [15:0], data in [31:16]


@dataclass(frozen=True, slots=True)
class JitImage:
    """Machine code for one BPF function."""

    code: bytes
    insn_offsets: tuple[int, ...]  # native offset at which each BPF instruction starts, plus the end of the last
    extable: tuple[ExtableEntry, ...] = field(default=())


class BpfJit(Protocol):
    """The architecture's BPF JIT."""

    def compile(self, request: JitRequest) -> JitImage:
        """Translate. Raises NotImplementedError naming the instruction where it knows no translation."""
        ...


@dataclass(frozen=True, slots=True)
class TrampolineProg:
    """One program that a trampoline calls. Addresses are guest virtual."""

    address: int  # struct bpf_prog
    bpf_func: int
    insnsi: int  # its instructions where it is interpreted, else 0
    enter: int  # the functions before and after it
    exit: int
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class TrampolineRequest:
    """A trampoline for the entry of a function with `nr_args` arguments in registers."""

    base: int  # guest VA of its first byte
    nr_args: int
    progs: Sequence[TrampolineProg]  # in the order in which they run


class BpfTrampoline(Protocol):
    """The architecture's trampolines and the function entries that call them."""

    MAX_ARGS: int  # arguments that are passed in registers
    SITE_OFFSET: int  # from the start of a function to the instruction that is changed

    def entry(self) -> bytes:
        """What a traceable function begins with while nothing is attached."""
        ...

    def site(self, at: int, target: int | None) -> bytes:
        """The instruction at `at` that calls `target`, or does nothing (None). ValueError: out of reach."""
        ...

    def prepare(self, request: TrampolineRequest) -> bytes:
        """Machine code of a trampoline; its length does not depend on the base."""
        ...


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture. Its modules traps, abi, oops and unwind are reached by import: their names are the same."""

    name: str  # "x86_64" | "arm64"
    uname: str  # "x86_64" | "aarch64"
    layout: Layout
    pgtable: PageTable

    @property
    def jit(self) -> BpfJit:
        """The architecture's BPF JIT, imported when first asked for."""
        found: BpfJit = importlib.import_module(f"arch.{self.name}.bpf_jit").JIT
        return found

    @property
    def trampoline(self) -> BpfTrampoline:
        """The architecture's BPF trampolines, imported when first asked for."""
        found: BpfTrampoline = importlib.import_module(f"arch.{self.name}.bpf_trampoline").TRAMPOLINE
        return found
