"""Mapped files here and on the kernel that runs this test: the same errors, VMAs and bytes.

Only where test_native.py runs.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    do_mmap,
    do_munmap,
)
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.shmem import shmem_file_setup
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserAccessError, UserSpace
from kernel_model.mm.vma import MmStruct
from tests.kernel_model.mm.test_native import BASE
from tests.oracle.this_kernel import unfit

PAGE, SCRIPTS, STEPS, FILES = 4096, 60, 60, 2
_VM_MAYSHARE = 0x80


class Model:
    """Answers as native_files.py does."""

    def __init__(self, init_mm):
        self.slab = Slab(init_mm)
        self.faults = FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True))
        self.init_mm = init_mm
        self.usage = init_mm.pages.usage()
        objects = GuestObjects(self.slab)
        self.mm = MmStruct(init_mm, objects, "test")
        self.user = UserSpace(self.mm, self.faults)
        self.files = [shmem_file_setup(init_mm, objects, f"file {n}", 0) for n in range(FILES)]
        self.numbers = {file: n for n, file in enumerate(self.files)}

    def close(self):
        for file in self.files:
            file.fput()
        self.mm.exit_mmap()
        assert not self.slab.live() and self.init_mm.pages.usage() == self.usage
        self.init_mm.pages.free_pages(self.faults.zero_pfn)

    def vmas(self):
        found = []
        for vma in self.mm.vmas():
            perms = "".join(c if vma.vm_flags & 1 << i else "-" for i, c in enumerate("rwx"))
            perms += "s" if vma.vm_flags & _VM_MAYSHARE else "p"
            number = self.numbers.setdefault(vma.vm_file, len(self.numbers)) if vma.vm_file else -1
            pages = (vma.vm_end - vma.vm_start) // PAGE
            found.append([(vma.vm_start - BASE) // PAGE, pages, perms, vma.vm_pgoff if vma.vm_file else 0, number])
        return found

    def map(self, page, pages, prot, flags, file, pgoff):
        at = BASE + page * PAGE
        got = do_mmap(self.mm, at, pages * PAGE, prot, flags, self.files[file] if file >= 0 else None, pgoff)
        return 0 if got == at else got

    def unmap(self, page, pages):
        return do_munmap(self.mm, BASE + page * PAGE, pages * PAGE)

    def protect(self, page, pages, prot):
        return self.mm.run(do_mprotect(self.mm, BASE + page * PAGE, pages * PAGE, prot))

    def write(self, page, offset, value):
        try:
            self.user.write(BASE + page * PAGE + offset, bytes([value]))
        except UserAccessError as error:
            return -error.errno
        return 0

    def read(self, page, offset):
        try:
            return self.user.read(BASE + page * PAGE + offset, 1)[0]
        except UserAccessError as error:
            return -error.errno

    def truncate(self, file, size):
        self.files[file].f_inode.truncate(size)
        return 0

    def pwrite(self, file, pos, value):
        self.files[file].f_inode.write(pos, bytes([value]))
        return 1

    def pread(self, file, pos):
        return (self.files[file].f_inode.read(pos, 1) or [-1])[0]


def step(dice):
    """One random operation; few pages and offsets, so that they meet."""
    page, pages, file = dice.randrange(10), dice.choice([1, 1, 2, 3, 5]), dice.randrange(FILES)
    offset = dice.choice([0, 7, PAGE - 1])
    name = dice.choices(["map", "unmap", "protect", "write", "read", "truncate", "pwrite", "pread"],
                        [5, 1, 3, 8, 8, 2, 3, 3])[0]
    if name == "map":
        kind = dice.choice([MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE, 0])
        fixed = dice.choice([MAP_FIXED, MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE])
        prot = dice.choice([0, 1, 3, 3, 3, 3])
        if dice.random() < 0.2:
            return [name, page, pages, prot, kind | fixed | MAP_ANONYMOUS, -1, 0]
        pgoff = max(page + dice.choice([0, 0, 0, 1, -1]), 0)  # neighbours often go on in the file
        return [name, page, pages, prot, kind | fixed, file, pgoff]
    if name == "truncate":
        return [name, file, dice.choice([0, 1, 5, 6, 8, 12]) * PAGE + dice.choice([0, 0, 1, 100])]
    if name in ("pwrite", "pread"):
        rest = [file, dice.randrange(12) * PAGE + offset]
        return [name, *rest, dice.randrange(1, 256)] if name == "pwrite" else [name, *rest]
    if name in ("unmap", "protect"):
        return [name, page, pages] if name == "unmap" else [name, page, pages, dice.choice([0, 1, 3, 3])]
    return [name, page, offset, dice.randrange(1, 256)] if name == "write" else [name, page, offset]


@pytest.mark.skipif(bool(unfit()), reason=unfit())
def test_the_same_as_this_kernel(x86_mm):
    dice = random.Random(618)
    pairs = []
    for _ in range(SCRIPTS):
        model, steps, answers = Model(x86_mm), [], []
        for name, *rest in [["truncate", 0, 8 * PAGE], ["truncate", 1, 8 * PAGE], *(step(dice) for _ in range(STEPS))]:
            steps.append([name, *rest])
            answers.append([getattr(model, name)(*rest), model.vmas()])
        model.close()
        pairs.append((steps, answers))
    asked = json.dumps({"base": BASE, "scripts": [steps for steps, _ in pairs]})
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("native_files.py"))],
        input=asked, capture_output=True, text=True, check=False, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for (steps, answers), real in zip(pairs, json.loads(done.stdout), strict=True):
        for n, (here, there) in enumerate(zip(answers, real, strict=True)):
            assert here == there, f"after {steps[: n + 1]}"
    gave = {(steps[i][0], min(answers[i][0], 1)) for steps, answers in pairs for i in range(len(steps))}
    wanted = {("read", 1), ("read", -14), ("write", 0), ("write", -14), ("map", -17), ("map", -22), ("map", -95),
              ("protect", -12), ("pread", 1), ("pread", -1)}
    assert gave >= wanted, "the scripts reach every error"
