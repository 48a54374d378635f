"""Does a store of kernel text to an unallocated arena page survive until the page is allocated?"""


def scenario(kernel):
    obj = kernel.load("images/bpf/arena_oob.bpf.o")
    result = kernel.run(obj.prog("allocate_scratched"))
    print(f"{kernel.profile.name}: allocation over scratch", "works" if obj.read_longs("res")[0] else "fails")
    print(result.stderr.splitlines()[0])
    return not result.oops
