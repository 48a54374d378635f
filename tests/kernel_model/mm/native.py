"""Run by test_native.py in a process of its own: system calls on this machine's kernel inside a window of addresses.

Reads {"base": ..., "scripts": [[[operation, page, pages, prot or flags], ...], ...]} from stdin; prints, for each
script, what each operation returned and the window's VMAs after it.
"""

import ctypes
import json
import sys

PAGE, WINDOW = 4096, 64
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def vmas(base):
    """[first page, pages, "rwxp"] of each VMA of the window."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, perms = line.split()[:2]
            start, end = (int(x, 16) for x in span.split("-"))
            if end > base and start < base + WINDOW * PAGE:
                found.append([(start - base) // PAGE, (end - start) // PAGE, perms])
    return found


def do(base, name, page, pages, extra):
    """0 or -errno of one operation."""
    at, length = base + page * PAGE, pages * PAGE
    if name == "map":
        got = libc.mmap(at, length, extra & 7, extra >> 3, -1, 0)
        return 0 if got == at else -ctypes.get_errno()
    if name == "write":
        ctypes.memset(at, 1, 1)
        return 0
    call = {"unmap": libc.munmap, "protect": libc.mprotect, "advise": libc.madvise}[name]
    ret = call(at, length) if name == "unmap" else call(at, length, extra)
    return ret and -ctypes.get_errno()


def main():
    asked = json.load(sys.stdin)
    base = asked["base"]
    answers = []
    for script in asked["scripts"]:
        if vmas(base):
            sys.exit("the window is in use")
        answers.append([[do(base, *step), vmas(base)] for step in script])
        libc.munmap(base, WINDOW * PAGE)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
