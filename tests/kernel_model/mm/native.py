"""Run by test_native.py in a process of its own: system calls on this machine's kernel inside a window of addresses.

Reads {"base": ..., "scripts": [[[operation, page, pages, more], ...], ...], "heap": [...]} from stdin; prints, for
each script, what each operation returned and the window's VMAs after it, and at its end which pages
are there and what they hold.
"""

import ctypes
import json
import os
import sys

PAGE, WINDOW = 4096, 64
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.syscall.restype = ctypes.c_long
FLAGS = {"ac", "sr", "rr", "dc", "dd", "wf", "nr"}  # of VmFlags
SYS_BRK = 12


def vmas(base, window=WINDOW):
    """[first page, pages, "rwxp", flags] of each VMA of the window, cut to it."""
    found = []
    inside = False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                start, end = (int(x, 16) for x in words[0].split("-"))
                inside = end > base and start < base + window * PAGE
                if inside:
                    start, end = max(start, base), min(end, base + window * PAGE)
                    found.append([(start - base) // PAGE, (end - start) // PAGE, words[1]])
            elif inside and words[0] == "VmFlags:":
                found[-1].append(sorted(FLAGS & set(words[1:])))
    return found


def result(base, got, length):
    """What an operation answered: an address as a page of the window; what lies elsewhere is unmapped again."""
    if got is None or got >= 1 << 63 or got == ctypes.c_void_p(-1).value:
        return -ctypes.get_errno()
    if base <= got < base + WINDOW * PAGE:
        return (got - base) // PAGE
    libc.munmap(got, length)
    return "elsewhere"


def resident(base):
    """Pages of private memory that are there (mincore())."""
    found = []
    for first, pages, perms, _ in vmas(base):
        vec = (ctypes.c_ubyte * pages)()
        if perms[3] == "p" and libc.mincore(base + first * PAGE, pages * PAGE, vec) == 0:
            found += [first + i for i in range(pages) if vec[i] & 1]
    return found


def contents(base):
    """The first byte of each page that can be read."""
    return {
        page: ctypes.c_ubyte.from_address(base + page * PAGE).value
        for first, pages, perms, _ in vmas(base)
        for page in range(first, first + pages)
        if perms[0] == "r" and perms[3] == "p"
    }


def do(base, name, page, pages, extra):
    """A page, 0, "elsewhere" or -errno of one operation."""
    at, length = base + page * PAGE, pages * PAGE
    if name == "map":
        return result(base, libc.mmap(at, length, extra & 7, extra >> 3, -1, 0), length)
    if name == "write":
        ctypes.memset(at, extra, 1)
        return 0
    if name == "remap":
        new_pages, flags, new_page = extra
        return result(base, libc.mremap(at, length, new_pages * PAGE, flags, base + new_page * PAGE), new_pages * PAGE)
    call = {"unmap": libc.munmap, "protect": libc.mprotect, "advise": libc.madvise}[name]
    ret = call(at, length) if name == "unmap" else call(at, length, extra)
    return ret and -ctypes.get_errno()


def execute(base, script):
    """Answers of the steps, and of a look at the end. After "fork" the child goes on and its parent waits."""
    answers = []
    for n, step in enumerate(script):
        if step[0] != "fork":
            answers.append([do(base, *step), vmas(base)])
            continue
        read, write = os.pipe()
        if os.fork():
            os.close(write)
            with os.fdopen(read) as pipe:
                more, *look = json.load(pipe)
            os.wait()
            return [answers + more, *look]
        first = [0, vmas(base)]
        more, *look = execute(base, script[n + 1 :])
        with os.fdopen(write, "w") as pipe:
            json.dump([[first, *more], *look], pipe)
        os._exit(0)
    return [answers, resident(base), contents(base)]


def heap(script):
    """brk() from where the heap ends now: the bytes that each step left it at, and the VMAs above that."""
    libc.syscall(SYS_BRK, ctypes.c_ulong((libc.syscall(SYS_BRK, ctypes.c_ulong(0)) + PAGE - 1) & -PAGE))
    base = libc.syscall(SYS_BRK, ctypes.c_ulong(0))
    answers = []
    for name, value, pages in script:
        if name == "brk":
            answers.append(libc.syscall(SYS_BRK, ctypes.c_ulong(base + value)) - base)
        elif name == "map":
            answers.append(libc.mmap(base + value, pages * PAGE, 3, 0x32, -1, 0) - base)
        else:
            answers.append(libc.munmap(base + value, pages * PAGE))
        answers[-1] = [answers[-1], [vma[:3] for vma in vmas(base)]]
    libc.munmap(base, WINDOW * PAGE)
    libc.syscall(SYS_BRK, ctypes.c_ulong(base))
    return answers


def main():
    asked = json.load(sys.stdin)
    base = asked["base"]
    answers = []
    for script in asked["scripts"]:
        if vmas(base):
            sys.exit("the window is in use")
        answers.append(execute(base, script))
        libc.munmap(base, WINDOW * PAGE)
    json.dump({"scripts": answers, "heap": heap(asked["heap"])}, sys.stdout)


if __name__ == "__main__":
    main()
