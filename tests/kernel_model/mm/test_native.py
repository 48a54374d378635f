"""The system calls of mm here and on the kernel that runs this test: the same errors, VMAs and contents.

Only on Linux, x86-64, 6.16 or later (before, VMAs without written memory were merged by another rule).
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_model.mm.brk import do_brk
from kernel_model.mm.fault import FaultHandler
from kernel_model.mm.fork import dup_mm
from kernel_model.mm.madvise import Madv, do_madvise
from kernel_model.mm.mincore import do_mincore
from kernel_model.mm.mm_types import (
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_NORESERVE,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)
from kernel_model.mm.mmap import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    do_mmap,
    do_munmap,
)
from kernel_model.mm.mprotect import do_mprotect
from kernel_model.mm.mremap import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, do_mremap
from kernel_model.mm.objects import GuestObjects
from kernel_model.mm.slab import Slab
from kernel_model.mm.uaccess import UserSpace
from kernel_model.mm.vma import MmStruct
from tests.oracle.this_kernel import unfit

BASE, WINDOW, PAGE = 0x10_0000_0000, 64, 4096
SCRIPTS, STEPS = 60, 40


def model(init_mm):
    mm = MmStruct(init_mm, GuestObjects(Slab(init_mm)), "test")
    return UserSpace(mm, FaultHandler(init_mm.pages.alloc_pages(owner="zero page", zero=True)))


def result(mm, got, length):
    """As native.py says it."""
    if got < 0 or BASE <= got < BASE + WINDOW * PAGE:
        return got if got < 0 else (got - BASE) // PAGE
    assert do_munmap(mm, got, length) == 0
    return "elsewhere"


def do(user, name, page, pages, extra):
    mm, at, length = user.mm, BASE + page * PAGE, pages * PAGE
    if name == "fork":
        user.mm = mm.run(dup_mm(mm, "child"))  # which goes on; its parent waits
        return 0
    if name == "map":
        return result(mm, do_mmap(mm, at, length, extra & 7, extra >> 3), length)
    if name == "unmap":
        return do_munmap(mm, at, length)
    if name == "protect":
        return mm.run(do_mprotect(mm, at, length, extra))
    if name == "advise":
        return do_madvise(user.faults, mm, at, length, extra)
    if name == "remap":
        new_pages, flags, new_page = extra
        return result(mm, do_mremap(mm, at, length, new_pages * PAGE, flags, BASE + new_page * PAGE), new_pages * PAGE)
    user.write(at, bytes([extra]))
    return 0


FLAGS = {
    "ac": VM_ACCOUNT, "sr": VM_SEQ_READ, "rr": VM_RAND_READ, "dc": VM_DONTCOPY, "dd": VM_DONTDUMP,
    "wf": VM_WIPEONFORK, "nr": VM_NORESERVE,
}  # fmt: skip


def vmas(mm, base=BASE):
    def perms(flags):
        return "".join(c if flags & 1 << i else "-" for i, c in enumerate("rwx")) + ("s" if flags & 8 else "p")

    def more(flags):
        return sorted(name for name, bit in FLAGS.items() if flags & bit)

    return [
        [(v.vm_start - base) // PAGE, (v.vm_end - v.vm_start) // PAGE, perms(v.vm_flags), more(v.vm_flags)]
        for v in mm.vmas()
    ]


def resident(mm):
    """Pages of private memory that are there."""
    found = []
    for vma in mm.vmas():
        if not vma.vm_flags & 8:
            first, pages = (vma.vm_start - BASE) // PAGE, (vma.vm_end - vma.vm_start) // PAGE
            vec = do_mincore(mm, vma.vm_start, pages)
            found += [first + i for i in range(pages) if vec[i]]
    return found


def contents(user):
    """The first byte of every readable private page."""
    return {
        str((at - BASE) // PAGE): user.read(at, 1)[0]
        for vma in user.mm.vmas()
        for at in range(vma.vm_start, vma.vm_end, PAGE)
        if vma.vm_flags & 9 == 1
    }


_RW = 3 | (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) << 3
ISLANDS = [  # memory that was written apart stays apart, however equal it becomes
    ["map", 0, 1, _RW], ["map", 2, 1, _RW], ["write", 0, 1, 1], ["write", 2, 1, 1], ["map", 1, 1, _RW],
    ["protect", 2, 1, 1], ["protect", 2, 1, 3], ["protect", 1, 1, 1], ["protect", 1, 1, 3], ["protect", 0, 3, 7],
]  # fmt: skip


MAP, MAYMOVE, DONTUNMAP = MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP
ADVICE = [*(m for m in Madv if m not in (Madv.REMOVE, Madv.PAGEOUT, Madv.GUARD_INSTALL, Madv.GUARD_REMOVE)), 7]
NAMES = ["map", "unmap", "protect", "write", "remap", "advise", "fork"]


def script(dice, user, family):
    """A random script, and what the model answers to it. Only what is writable is written, and shared memory never:
    here it has no pages behind it. `family` gets the parents, who hold their pages."""
    steps, answers = [], []
    dense = dice.random() < 0.5  # little room, much writing: memory that was written meets at every edge
    weights = dice.choice([[2, 1, 6, 8, 0, 0, 1], [2, 1, 2, 6, 8, 0, 0], [3, 1, 2, 4, 1, 8, 1], [3, 1, 2, 4, 4, 4, 0]])
    for _ in range(STEPS):
        name = dice.choices(NAMES, weights)[0]
        page = dice.randrange(8 if dense else WINDOW - 8)
        pages = dice.choice([1, 1, 2] if dense else [0, 1, 1, 2, 3, 4, 8])
        extra = dice.choice([3, 7] if dense else [0, 1, 3, 3, 3, 3, 7])
        there = vmas(user.mm)
        if name in ("remap", "write") and there and dice.random() < 0.8:  # a part of what is mapped
            first, length, _, _ = dice.choice(there)
            page = first + dice.choice([0, dice.randrange(length)])
            pages = dice.choice([length - (page - first), 1])
        vma = user.mm.vma_lookup(BASE + page * PAGE)
        if name == "map":
            kind = dice.choice([MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_NORESERVE, 0])
            extra |= (kind | MAP_ANONYMOUS | dice.choice([MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE])) << 3
        elif name == "protect":
            extra = dice.choice([extra] * 9 + [0x10])
        elif name == "write":
            if vma is None or not vma.vm_flags & 2:  # VM_WRITE
                continue
            extra = dice.randrange(1, 256)
        elif name == "remap":
            flags = dice.choice([0, MAYMOVE, MAP, MAP, MAP, DONTUNMAP, DONTUNMAP | MREMAP_FIXED, MREMAP_FIXED, 8])
            extra = [dice.choice([pages, pages, pages + 1, max(pages - 1, 0)]), flags, dice.randrange(WINDOW - 8)]
        elif name == "advise":
            extra = int(dice.choice(ADVICE))
            shared = any(v.vm_flags & 8 for v in user.mm.vmas())
            if shared and extra in (Madv.FREE, Madv.POPULATE_READ, Madv.POPULATE_WRITE):
                continue
        elif name == "fork":
            if len(family) == 3:
                continue
            family.append(user.mm)
        steps.append([name, page, pages, extra])
        answers.append([do(user, *steps[-1]), vmas(user.mm)])
    return steps, answers


def heap(dice):
    """A random script of the heap and what the model answers; mappings that get in its way are part of it."""
    steps = []
    for _ in range(60):
        name = dice.choice(["brk", "brk", "brk", "brk", "map", "unmap"])
        page, pages = dice.randrange(WINDOW - 8), dice.choice([1, 2, 3])
        value = page * PAGE + (dice.choice([0, 1, 100, 4095]) if name == "brk" else 0)
        steps.append([name, value, pages])
    return steps


def heap_here(init_mm, steps):
    user = model(init_mm)
    mm, base, answers = user.mm, BASE + PAGE, []
    mm.start_heap(BASE)
    assert do_brk(mm, base) == base
    user.write(BASE, b"x")
    for name, value, pages in steps:
        if name == "brk":
            got = do_brk(mm, base + value) - base
        elif name == "map":
            got = do_mmap(mm, base + value, pages * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) - base
        else:
            got = do_munmap(mm, base + value, pages * PAGE)
        found = [[max(first, 0), pages + min(first, 0), perms] for first, pages, perms, _ in vmas(mm, base)]
        answers.append([got, [vma for vma in found if vma[1]]])
    mm.exit_mmap()
    return answers


@pytest.mark.skipif(bool(unfit()), reason=unfit())
def test_the_same_as_this_kernel(x86_mm):
    dice = random.Random(618)
    user = model(x86_mm)
    cases = [(ISLANDS, [[do(user, *step), vmas(user.mm)] for step in ISLANDS], resident(user.mm), contents(user))]
    user.mm.exit_mmap()
    for _ in range(SCRIPTS):
        family, user = [], model(x86_mm)
        steps, answers = script(dice, user, family)
        cases.append((steps, answers, resident(user.mm), contents(user)))
        for mm in (user.mm, *family):
            mm.exit_mmap()
    brk = heap(dice)
    asked = json.dumps({"base": BASE, "scripts": [steps for steps, *_ in cases], "heap": brk})
    native = Path(__file__).with_name("native.py")
    done = subprocess.run(
        [sys.executable, str(native)], input=asked, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for (steps, answers, there, held), (real, really_there, really_held) in zip(cases, told["scripts"], strict=True):
        for n, (said, told_here) in enumerate(zip(answers, real, strict=True)):
            assert said == told_here, f"after {steps[: n + 1]}"
        assert there == really_there, f"after {steps}"
        assert held == really_held, f"after {steps}"
    for n, (here, there) in enumerate(zip(heap_here(x86_mm, brk), told["heap"], strict=True)):
        assert here == there, f"after {brk[: n + 1]}"
    errors = {ret for _, answers, *_ in cases for ret, _ in answers}
    assert errors >= {0, -12, -14, -17, -22, "elsewhere"}, "the scripts reach every error"
