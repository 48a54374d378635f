"""arm64: 4 KiB pages, 48-bit virtual addresses."""

from arch.arm64.pgtable import PGTABLE
from arch.interface import Arch, Layout

LAYOUT = Layout(
    phys_base=0x40000000,
    page_offset=0xFFFF000000000000,
    vmalloc_start=0xFFFF800084000000,
    vmalloc_end=0xFFFFFDFFBFFF0000,
    vmemmap=0xFFFFFDFFC0000000,
    kernel_text=0xFFFF800080000000,
    kernel_phys=0x41000000,
    modules_start=0xFFFF80007C000000,
    modules_end=0xFFFF800080000000,
    task_size=1 << 48,
)
ARCH = Arch(name="arm64", uname="aarch64", layout=LAYOUT, pgtable=PGTABLE)
