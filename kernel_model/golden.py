"""The half of modules `golden` and `golock` that is no guest text: addresses for faults, log lines, their file.

Mirrors the test modules whose texts are the reference (tests/golden/kernel-texts/README.md).
"""

from __future__ import annotations

from collections.abc import Callable

from kernel_model.console import Console
from kernel_model.errors import NotModelledError
from kernel_model.kcall import kcall
from kernel_model.mm.access import KernelSpace
from kernel_model.mm.mmap import MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE, do_mmap, do_munmap
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vmalloc import Vmalloc
from kernel_model.sched.task import Task

_PAGE = 4096


class Golden:
    """kcalls of the modules."""

    def __init__(
        self, space: KernelSpace, console: Console, vmalloc: Vmalloc, slab: Slab, user: Callable[[], UserSpace | None],
        current: Callable[[], Task], direct_hole: int,
    ) -> None:
        self._space = space
        self._console = console
        self._vmalloc = vmalloc
        self._slab = slab
        self._user = user
        self._current = current
        self._direct_hole = direct_hole
        self._hole = 0

    @kcall
    def golden_address(self, what: int) -> int:
        """unsigned long golden_address(const char *what): an address with the property that the case needs."""
        name = self._space.read_cstr(what).decode()
        found = {
            "vmalloc_hole": self._vmalloc_hole, "direct_hole": lambda: self._direct_hole, "kmalloc": self._kmalloc,
            "user_page": lambda: self._user_page(PROT_READ | PROT_WRITE, touch=True),
            "user_text": lambda: self._user_page(PROT_READ | PROT_EXEC, touch=True),
            "user_notpresent": lambda: self._user_page(PROT_READ | PROT_WRITE, touch=False),
            "user_novma": self._user_novma,
        }.get(name)
        if found is None:
            raise NotModelledError(f"module golden asks for an address {name!r} that is not modelled")
        return found()

    def _vmalloc_hole(self) -> int:
        """24 bytes into the guard page behind a one-page vmalloc area."""
        if not self._hole:
            self._hole = self._vmalloc.vmalloc(_PAGE, "golden") + _PAGE + 0x18
        return self._hole

    def _kmalloc(self) -> int:
        address = self._slab.kmalloc(64, "golden")
        self._space.write(address, b"\x90" * 64)
        return address

    def _space_of_user(self) -> UserSpace:
        user = self._user()
        if user is None:
            raise NotModelledError("module golden: a kernel thread has no user page to offer")
        return user

    def _user_page(self, prot: int, touch: bool) -> int:
        user = self._space_of_user()
        address = do_mmap(user.mm, 0, _PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS)
        if touch:
            user.poke(address, (0x5A).to_bytes(8, "little"))
        return address

    def _user_novma(self) -> int:
        user = self._space_of_user()
        address = do_mmap(user.mm, 0, 2 * _PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
        for page in (address, address + _PAGE):
            user.poke(page, b"\x5a")
        do_munmap(user.mm, address, _PAGE)  # its neighbour keeps the page table alive
        return address

    @kcall
    def golden_log(self, text: int, ret: int, value: int) -> None:
        """void golden_log(const char *text, long ret, unsigned long value): a line as the module's pr_info()."""
        line = self._space.read_cstr(text).decode()
        tail = f" dst {value:x}" if "copy_to_kernel" not in line else ""
        self._console.print(f"golden: {line}: ret {ret}{tail}")

    @kcall
    def golock_log(self, ret: int) -> None:
        """void golock_log(long ret): the module's pr_info() of what copy_from_user() gave."""
        self._console.print(f"golock: copy_from_user ret {ret}")

    @kcall
    def golden_warn_text(self, number: int) -> None:
        """The head that WARN(1, "golden warning %d") prints before its trap."""
        self._console.print("------------[ cut here ]------------", f"golden warning {number}")
