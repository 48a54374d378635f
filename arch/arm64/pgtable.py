"""arm64 page tables: descriptor bits as Linux sets them, 4 KiB granule, 48-bit addresses, four levels.

Mirrors arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h and pgalloc.h (Linux 6.18). Leaves out: 16K/64K
granules, 52-bit addresses, contiguous bits, memory tagging, permission overlays, BTI guarded pages.
"""

from __future__ import annotations

from functools import cache

from arch.interface import PAGE_SHIFT, Prot, ReadQword, Walk

_VALID = 1 << 0
_TYPE_TABLE = 1 << 1  # pgd..pmd: points to a table; pte: must be set
_ATTR_NORMAL_TAGGED = 1 << 2  # AttrIdx 1 (MT_NORMAL_TAGGED): what the linear map uses; 0 is MT_NORMAL
_USER = 1 << 6  # AP[1]
_RDONLY = 1 << 7  # AP[2]
_SHARED = 3 << 8  # inner shareable
_AF = 1 << 10
_NG = 1 << 11
_WRITE = 1 << 51  # DBM: writable, RDONLY says whether it is clean
_PXN = 1 << 53
_UXN = 1 << 54
_DIRTY = 1 << 55  # software
_SPECIAL = 1 << 56  # software
_TABLE_PXN = 1 << 59
_TABLE_UXN = 1 << 60

_PAGE_OFFSET = 0xFFFF_0000_0000_0000
_PFN_MASK = 0x0000_FFFF_FFFF_F000



@cache  # there are few, and every fault asks
def _leaf_bits(prot: Prot, page: bool, linear: bool) -> int:
    entry = _VALID | _AF | _SHARED
    if page:
        entry |= _TYPE_TABLE
    if linear:
        entry |= _ATTR_NORMAL_TAGGED
    if prot & Prot.WRITE:
        entry |= _WRITE | _DIRTY
    else:
        entry |= _RDONLY
    if prot & Prot.USER:
        return entry | _USER | _NG | _PXN | (0 if prot & Prot.EXEC else _UXN)
    return entry | _DIRTY | _UXN | (0 if prot & Prot.EXEC else _PXN)


@cache
def _prot(bits: int) -> Prot:
    if not bits & _VALID:
        return Prot(0)
    prot = Prot.READ
    if not bits & _RDONLY:
        prot |= Prot.WRITE
    if bits & _USER:
        prot |= Prot.USER
    if not bits & (_UXN if bits & _USER else _PXN):
        prot |= Prot.EXEC
    return prot


class Arm64PageTable:
    """The PageTable of arm64.

    A descriptor (Arm ARM D8.3; bits that Linux and this model use). In a table descriptor only the address, bits
    0, 1, 10 and the two TABLE bits mean something::

         63 62  61  60   59  58 57  56  55   54  53  52  51  50  49 48 47                    12
        +---------+----+----+-----+---+-----+---+---+---+----+---+-----+-----------------------+
        |  ...    |UXNT|PXNT| ... |SPC|DIRTY|UXN|PXN| 0 |DBM | 0 |  0  | phys. address [47:12] | ...
        +---------+----+----+-----+---+-----+---+---+---+----+---+-----+-----------------------+
          11   10   9    8    7      6    5   4       2   1     0
        +----+----+---------+------+----+----+---------+-----+-----+
        | nG | AF |   SH    |RDONLY|USER| NS | AttrIdx |TABLE|VALID|
        +----+----+---------+------+----+----+---------+-----+-----+

    and a virtual address (TTBR1 where the upper bits are ones, TTBR0 where they are zeros)::

         63       48 47      39 38      30 29      21 20      12 11         0
        +-----------+----------+----------+----------+----------+------------+
        | all alike |   pgd    |   pud    |   pmd    |   pte    |   offset   |
        +-----------+----------+----------+----------+----------+------------+
    """

    LEVELS: tuple[tuple[str, int], ...] = (("pgd", 39), ("pud", 30), ("pmd", 21), ("pte", 12))
    TABLE_MASK, TABLE_BITS, PFN_MASK = _TYPE_TABLE | _VALID, _TYPE_TABLE | _VALID, _PFN_MASK
    LINEAR_BLOCKS = False  # rodata=full, the default: permissions change page by page, no block is split
    SHARED_ROOT = False  # user space has its own root, in TTBR0

    def index(self, va: int, shift: int) -> int:
        """Index of `va`'s entry in the table whose entries cover 1 << shift bytes."""
        return (va >> shift) & 511

    def walk(self, read: ReadQword, root: int, va: int) -> Walk:
        """Walk from the pgd at physical `root`; ends at the leaf or at the first entry that is not valid."""
        levels = []
        table = root
        forbidden = Prot(0)
        for name, shift in self.LEVELS:
            where = table + ((va >> shift) & 511) * 8
            entry = read(where)
            levels.append((name, entry, where))
            if not entry & _VALID:
                break
            if self.leaf(entry, shift):
                prot = self.prot(entry) & ~forbidden
                return Walk(tuple(levels), self.pa(entry) & ~((1 << shift) - 1) | (va & ((1 << shift) - 1)), prot)
            if entry & (_TABLE_UXN if self._user_va(va) else _TABLE_PXN):
                forbidden |= Prot.EXEC
            table = entry & _PFN_MASK
        return Walk(tuple(levels), None, Prot(0))

    def translate(self, read: ReadQword, root: int, va: int) -> int | None:
        """walk().pa without the rest: for accesses that happen thousands of times."""
        entry = read(root + (va >> 36 & 0xFF8))
        if not entry & _VALID:
            return None
        entry = read((entry & _PFN_MASK) + (va >> 27 & 0xFF8))
        if not entry & _VALID:
            return None
        if not entry & _TYPE_TABLE:
            return entry & _PFN_MASK & -(1 << 30) | va & (1 << 30) - 1
        entry = read((entry & _PFN_MASK) + (va >> 18 & 0xFF8))
        if not entry & _VALID:
            return None
        if not entry & _TYPE_TABLE:
            return entry & _PFN_MASK & -(1 << 21) | va & (1 << 21) - 1
        entry = read((entry & _PFN_MASK) + (va >> 9 & 0xFF8))
        return entry & _PFN_MASK | va & 0xFFF if entry & _VALID else None

    def mk_table(self, pa: int, user: bool = False, *, linear: bool = False, early: bool = False) -> int:
        """Entry that points to the next table at physical `pa`.

        User tables forbid EL1 to execute (pmd_populate()), kernel tables EL0 (pmd_populate_kernel()); the linear
        map (`linear`: __create_pgd_mapping() with NO_EXEC_MAPPINGS, mm/mmu.c) both. Tables of the kernel image
        (`early`: pi/map_range.c) have no access flag.
        """
        entry = pa | _TYPE_TABLE | _VALID
        if not early:
            entry |= _AF
        if user or linear:
            entry |= _TABLE_PXN
        if not user:
            entry |= _TABLE_UXN
        return entry

    def mk_leaf(self, pa: int, prot: Prot, shift: int = PAGE_SHIFT, *, linear: bool = False) -> int:
        """Entry that maps the page (or block, by shift 21 or 30) at `pa`.

        Kernel: PAGE_KERNEL 0x00e8...0703 (0x707 in the linear map), read-only 0x00e0...0783. User: PXN always,
        UXN unless executable. A block has bit 1 clear.
        """
        return pa | _leaf_bits(prot, shift == PAGE_SHIFT, linear)

    def mk_special(self, entry: int) -> int:
        """pte_mkspecial(): the page behind this leaf is not reference counted (zero page)."""
        return entry | _SPECIAL

    def special(self, entry: int) -> bool:
        """pte_special()."""
        return bool(entry & _SPECIAL)

    def present(self, entry: int) -> bool:
        """pte_present(), without the software PROT_NONE encoding."""
        return bool(entry & _VALID)

    def mk_protnone(self, pa: int) -> int:
        """PAGE_NONE: PTE_PRESENT_INVALID (the bit of nG) without VALID."""
        return pa | _TYPE_TABLE | _AF | _SHARED | _RDONLY | _NG | _PXN | _UXN

    def protnone(self, entry: int) -> bool:
        """pte_present_invalid(): of PROT_NONE."""
        return entry & (_NG | _VALID) == _NG

    def leaf(self, entry: int, shift: int) -> bool:
        """True where a present entry at this level maps memory instead of pointing to a table."""
        return shift == PAGE_SHIFT or not entry & _TYPE_TABLE

    def pa(self, entry: int) -> int:
        """Physical address that the entry holds (__pte_to_phys())."""
        return entry & _PFN_MASK

    def prot(self, entry: int) -> Prot:
        """What a leaf entry allows by itself. EXEC: to EL0 for user pages, to EL1 for kernel pages."""
        return _prot(entry & (_VALID | _RDONLY | _USER | _UXN | _PXN))

    def is_kernel_va(self, va: int) -> bool:
        """is_ttbr1_addr() (arch/arm64/include/asm/processor.h): PAGE_OFFSET and above."""
        return va >= _PAGE_OFFSET

    @staticmethod
    def _user_va(va: int) -> bool:
        return not va & (1 << 55)


PGTABLE = Arm64PageTable()
