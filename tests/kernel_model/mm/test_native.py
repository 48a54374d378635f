"""mmap(), munmap() and mprotect() here and on the kernel that runs this test: the same errors, the same VMAs.

Only on Linux, x86-64, 6.16 or later (before, VMAs without written memory were merged by another rule).
"""

import json
import platform
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
    do_mmap,
    do_munmap,
)
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmStruct

BASE, WINDOW, PAGE = 0x10_0000_0000, 64, 4096
SCRIPTS, STEPS = 60, 40


def _unfit():
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"no Linux on x86-64: {platform.system()} {platform.machine()}"
    release = tuple(int(n) for n in platform.release().split("-")[0].split(".")[:2])
    return f"Linux {platform.release()} is older than 6.16" if release < (6, 16) else ""


def model(init_mm):
    mm = MmStruct(init_mm, GuestObjects(Slab(init_mm)), "test")
    return UserSpace(mm, FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True)))


def do(user, name, page, pages, extra):
    mm, at, length = user.mm, BASE + page * PAGE, pages * PAGE
    if name == "map":
        got = do_mmap(mm, at, length, extra & 7, extra >> 3)
        return 0 if got == at else got
    if name == "unmap":
        return do_munmap(mm, at, length)
    if name == "protect":
        return mm.run(do_mprotect(mm, at, length, extra))
    user.write(at, b"\1")
    return 0


def vmas(mm):
    def perms(flags):
        return "".join(c if flags & 1 << i else "-" for i, c in enumerate("rwx")) + ("s" if flags & 8 else "p")

    return [[(v.vm_start - BASE) // PAGE, (v.vm_end - v.vm_start) // PAGE, perms(v.vm_flags)] for v in mm.vmas()]


_RW = 3 | (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) << 3
ISLANDS = [  # memory that was written apart stays apart, however equal it becomes
    ["map", 0, 1, _RW], ["map", 2, 1, _RW], ["write", 0, 1, 0], ["write", 2, 1, 0], ["map", 1, 1, _RW],
    ["protect", 2, 1, 1], ["protect", 2, 1, 3], ["protect", 1, 1, 1], ["protect", 1, 1, 3], ["protect", 0, 3, 7],
]  # fmt: skip


def script(dice, user):
    """A random script, and what the model answers to it. Only what is writable is written."""
    steps, answers = [], []
    dense = dice.random() < 0.5  # little room, much writing: memory that was written meets at every edge
    names = ["map", "unmap", "protect", "write"]
    for _ in range(STEPS):
        name = dice.choices(names, [2, 1, 6, 8] if dense else [2, 1, 2, 2])[0]
        page = dice.randrange(8 if dense else WINDOW - 8)
        pages = dice.choice([1, 1, 2] if dense else [0, 1, 1, 2, 3, 4, 8])
        prot = dice.choice([3, 7] if dense else [0, 1, 3, 3, 3, 3, 7])
        if name == "map":
            kind = dice.choice([MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, 0])
            prot |= (kind | MAP_ANONYMOUS | dice.choice([MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE])) << 3
        elif name == "protect":
            prot = dice.choice([prot] * 9 + [0x10])
        elif name == "write":
            vma = user.mm.vma_lookup(BASE + page * PAGE)
            if vma is None or not vma.vm_flags & 2:  # VM_WRITE
                continue
        steps.append([name, page, pages, prot])
        answers.append([do(user, *steps[-1]), vmas(user.mm)])
    return steps, answers


@pytest.mark.skipif(bool(_unfit()), reason=_unfit())
def test_the_same_as_this_kernel(x86_mm):
    dice = random.Random(618)
    user = model(x86_mm)
    pairs = [(ISLANDS, [[do(user, *step), vmas(user.mm)] for step in ISLANDS])]
    user.mm.exit_mmap()
    for _ in range(SCRIPTS):
        user = model(x86_mm)
        pairs.append(script(dice, user))
        user.mm.exit_mmap()
    asked = json.dumps({"base": BASE, "scripts": [steps for steps, _ in pairs]})
    native = Path(__file__).with_name("native.py")
    done = subprocess.run(
        [sys.executable, str(native)], input=asked, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for (steps, answers), real in zip(pairs, json.loads(done.stdout), strict=True):
        for n, (here, there) in enumerate(zip(answers, real, strict=True)):
            assert here == there, f"after {steps[: n + 1]}"
    errors = {ret for _, answers in pairs for ret, _ in answers}
    assert errors >= {0, -12, -17, -22}, "the scripts reach every error"
