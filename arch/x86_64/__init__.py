"""x86-64."""

from arch.interface import Arch, Layout
from arch.x86_64.pgtable import PGTABLE

LAYOUT = Layout(
    phys_base=0,
    page_offset=0xFFFF888000000000,
    vmalloc_start=0xFFFFC90000000000,
    vmalloc_end=0xFFFFE90000000000,
    vmemmap=0xFFFFEA0000000000,
    kernel_text=0xFFFFFFFF81000000,
    kernel_phys=0x1000000,
    modules_start=0xFFFFFFFFC0000000,
    modules_end=0xFFFFFFFFFF000000,
    task_size=0x7FFFFFFFF000,
)
ARCH = Arch(name="x86_64", uname="x86_64", layout=LAYOUT, pgtable=PGTABLE)
