"""x86-64 page tables: entry bits as Linux sets them, four levels of 512 entries.

Mirrors arch/x86/include/asm/pgtable_types.h and pgtable_64.h (Linux 6.18). Leaves out: five levels (la57), PAT and
cache modes, protection keys, memory encryption, software dirty and userfaultfd bits, page-table isolation.
"""

from __future__ import annotations

from functools import cache

from arch.interface import PAGE_SHIFT, Prot, ReadQword, Walk

_PAGE_PRESENT = 1 << 0
_PAGE_RW = 1 << 1
_PAGE_USER = 1 << 2
_PAGE_ACCESSED = 1 << 5
_PAGE_DIRTY = 1 << 6
_PAGE_PSE = 1 << 7  # in pud and pmd: maps memory
_PAGE_GLOBAL = 1 << 8  # survives a CR3 write; in an entry without PRESENT: PROTNONE
_PAGE_SPECIAL = 1 << 9
_PAGE_NX = 1 << 63

_KERNPG_TABLE = _PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY  # 0x63
_PAGE_TABLE = _KERNPG_TABLE | _PAGE_USER  # 0x67: what pud_populate() and friends use for every mm
_PFN_MASK = 0x000F_FFFF_FFFF_F000

_TASK_SIZE_MAX = 0x0000_7FFF_FFFF_F000



@cache  # there are few, and every fault asks
def _leaf_bits(prot: Prot, page: bool) -> int:
    entry = _PAGE_PRESENT | _PAGE_ACCESSED
    if prot & Prot.WRITE:
        entry |= _PAGE_RW | _PAGE_DIRTY
    entry |= _PAGE_USER if prot & Prot.USER else _PAGE_GLOBAL
    if not prot & Prot.EXEC:
        entry |= _PAGE_NX
    return entry if page else entry | _PAGE_PSE


@cache
def _prot(bits: int) -> Prot:
    if not bits & _PAGE_PRESENT:
        return Prot(0)
    prot = Prot.READ
    if bits & _PAGE_RW:
        prot |= Prot.WRITE
    if not bits & _PAGE_NX:
        prot |= Prot.EXEC
    if bits & _PAGE_USER:
        prot |= Prot.USER
    return prot


class X86PageTable:
    """The PageTable of x86-64.

    An entry of any level (Intel SDM vol. 3A 4.5.4; bits that Linux and this model use)::

         63  62      52 51                           12  11   10   9   8   7   6   5   4   3   2   1   0
        +---+----------+------------------------------+----+----+---+---+---+---+---+---+---+---+---+---+
        |NX | ignored  |  physical address [51:12]    | software  |GLB|PSE|DTY|ACC|PCD|PWT|USR| RW| P |
        +---+----------+------------------------------+----+----+---+---+---+---+---+---+---+---+---+---+
          NX   no instruction fetch                     SPECIAL = 9   PSE   1: this pud/pmd entry maps memory

    and a virtual address::

         63       48 47      39 38      30 29      21 20      12 11         0
        +-----------+----------+----------+----------+----------+------------+
        | sign of 47|   pgd    |   pud    |   pmd    |   pte    |   offset   |
        +-----------+----------+----------+----------+----------+------------+

    Permissions are the AND over all levels (NX the OR), so tables allow everything and leaves decide.
    """

    LEVELS: tuple[tuple[str, int], ...] = (("pgd", 39), ("pud", 30), ("pmd", 21), ("pte", 12))
    TABLE_MASK, TABLE_BITS, PFN_MASK = _PAGE_PSE | _PAGE_PRESENT, _PAGE_PRESENT, _PFN_MASK
    LINEAR_BLOCKS = True
    SHARED_ROOT = True  # a user mm's root holds the kernel's upper half (no page-table isolation)

    def index(self, va: int, shift: int) -> int:
        """Index of `va`'s entry in the table whose entries cover 1 << shift bytes."""
        return (va >> shift) & 511

    def walk(self, read: ReadQword, root: int, va: int) -> Walk:
        """Walk from the pgd at physical `root`; ends at the leaf or at the first entry that is not present."""
        levels = []
        table = root
        user = True
        for name, shift in self.LEVELS:
            where = table + ((va >> shift) & 511) * 8
            entry = read(where)
            levels.append((name, entry, where))
            if not self.present(entry):
                break
            user = user and bool(entry & _PAGE_USER)
            if shift == PAGE_SHIFT or entry & _PAGE_PSE:
                prot = self.prot(entry) if user else self.prot(entry) & ~Prot.USER
                return Walk(tuple(levels), self.pa(entry) | (va & ((1 << shift) - 1)), prot)
            table = entry & _PFN_MASK
        return Walk(tuple(levels), None, Prot(0))

    def translate(self, read: ReadQword, root: int, va: int) -> int | None:
        """walk().pa without the rest: for accesses that happen thousands of times."""
        entry = read(root + (va >> 36 & 0xFF8))
        if not entry & _PAGE_PRESENT:
            return None
        entry = read((entry & _PFN_MASK) + (va >> 27 & 0xFF8))
        if not entry & _PAGE_PRESENT:
            return None
        if entry & _PAGE_PSE:
            return entry & _PFN_MASK & -(1 << 30) | va & (1 << 30) - 1
        entry = read((entry & _PFN_MASK) + (va >> 18 & 0xFF8))
        if not entry & _PAGE_PRESENT:
            return None
        if entry & _PAGE_PSE:
            return entry & _PFN_MASK & -(1 << 21) | va & (1 << 21) - 1
        entry = read((entry & _PFN_MASK) + (va >> 9 & 0xFF8))
        return entry & _PFN_MASK | va & 0xFFF if entry & _PAGE_PRESENT else None

    def mk_table(self, pa: int, user: bool = False, *, linear: bool = False, early: bool = False) -> int:
        """Entry that points to the next table at physical `pa`.

        Linux populates the tables of init_mm and of processes alike with _PAGE_TABLE (pgalloc.h, pud_populate());
        only the statically built ones of the kernel image (`early`: level3_kernel_pgt in head_64.S) have no USER bit.
        """
        return pa | (_KERNPG_TABLE if early else _PAGE_TABLE)

    def mk_leaf(self, pa: int, prot: Prot, shift: int = PAGE_SHIFT, *, linear: bool = False) -> int:
        """Entry that maps the page (or block, by shift 21 or 30) at `pa`.

        Kernel: PAGE_KERNEL 0x8000000000000163, read-only 0x8000000000000121 as set_memory_ro() leaves it. User:
        dirty as well as accessed when writable.
        """
        return pa | _leaf_bits(prot, shift == PAGE_SHIFT)

    def mk_special(self, entry: int) -> int:
        """pte_mkspecial(): the page behind this leaf is not reference counted (zero page)."""
        return entry | _PAGE_SPECIAL

    def special(self, entry: int) -> bool:
        """pte_special()."""
        return bool(entry & _PAGE_SPECIAL)

    def present(self, entry: int) -> bool:
        """pte_present()."""
        return bool(entry & _PAGE_PRESENT)

    def mk_protnone(self, pa: int) -> int:
        """PAGE_NONE. The frame number is inverted, so that speculation after the fault reads no real memory
        (pgtable-invert.h, L1TF)."""
        return (~pa & _PFN_MASK) | _PAGE_GLOBAL | _PAGE_ACCESSED

    def protnone(self, entry: int) -> bool:
        """pte_protnone()."""
        return entry & (_PAGE_GLOBAL | _PAGE_PRESENT) == _PAGE_GLOBAL

    def leaf(self, entry: int, shift: int) -> bool:
        """True where a present entry at this level maps memory instead of pointing to a table."""
        return shift == PAGE_SHIFT or bool(entry & _PAGE_PSE)

    def pa(self, entry: int) -> int:
        """Physical address that the entry holds (pte_pfn() << PAGE_SHIFT)."""
        return (~entry if self.protnone(entry) else entry) & _PFN_MASK

    def prot(self, entry: int) -> Prot:
        """What a leaf entry allows by itself."""
        return _prot(entry & (_PAGE_PRESENT | _PAGE_RW | _PAGE_NX | _PAGE_USER))

    def is_kernel_va(self, va: int) -> bool:
        """fault_in_kernel_space() (arch/x86/mm/fault.c), without the vsyscall page."""
        return va >= _TASK_SIZE_MAX


PGTABLE = X86PageTable()
