"""Kernel functions that programs call run in the guest: strings from user space, interrupts off and on again."""

from types import SimpleNamespace

import pytest

import emu
from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.prog import Verdict, kfunc_ids
from kernel_model.bpf.program import ProgSpec, ProgType
from tests.bpf_programs import mov64

EXIT = Insn(bpf.BPF_JMP | bpf.BPF_EXIT)
CALL = bpf.BPF_JMP | bpf.BPF_CALL
EFAULT, EINVAL, ESRCH = 14, 22, 3


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def run(kernel, *steps):
    """R0 of a program, verified as it were; names are calls of kernel functions."""
    ids = kfunc_ids(kernel.types.btf)
    insns = []
    for step in steps:
        insns += [Insn(CALL, 0, bpf.BPF_PSEUDO_KFUNC_CALL, 0, ids[step])] if isinstance(step, str) else step
    placed = [Function("p", 0, len(insns) + 1, 64)]
    spec = ProgSpec("p", "syscall", ProgType.SYSCALL, [*insns, EXIT], subprogs=[("p", 0)])
    prog = kernel.programs.load(spec, [], Verdict([Slot(True)] * len(spec.insns), placed, None, {}, ""),
                                kernel.types.btf, "jit")
    result = kernel.run(prog)
    assert not result.oops and not result.error
    return result.retval


def copy_str(kernel, room, source, flags=0):
    word = kernel.slab.kzalloc(64)
    kernel.space.write(word, b"\xee" * 64)
    result = run(kernel, mov64(1, word), mov64(2, room), mov64(3, source), mov64(4, flags), "bpf_copy_from_user_str")
    return result, kernel.space.read(word, 16)


def test_a_string_from_user_space(kernel):
    """prog_run's BPF_PROG_TEST_RUN attributes: a small number, which is a string of one character."""
    _, image = kernel.exec("prog_run")
    attr = image.addresses["attr"]
    length, copied = copy_str(kernel, 16, attr)
    assert length == 2 and copied[0] and copied[1] == 0 and copied[2:] == b"\xee" * 14
    length, copied = copy_str(kernel, 16, attr, flags=1)  # BPF_F_PAD_ZEROS
    assert length == 2 and copied[1:] == bytes(15)
    assert copy_str(kernel, 1, attr) == (1, bytes(1) + b"\xee" * 15)
    assert copy_str(kernel, 0, attr) == (0, b"\xee" * 16)


def test_a_string_that_is_not_there(kernel):
    assert copy_str(kernel, 16, 0) == (-EFAULT, b"\xee" * 16)
    assert copy_str(kernel, 16, 0, flags=1) == (-EFAULT, bytes(16))
    assert copy_str(kernel, 16, 0, flags=2)[0] == -EINVAL


def test_interrupts_are_off_in_between(kernel):
    """The flags that a nested save finds differ from those that the first one found."""
    first, second = kernel.slab.kzalloc(8), kernel.slab.kzalloc(8)
    run(kernel, mov64(1, first), "bpf_local_irq_save", mov64(1, second), "bpf_local_irq_save", mov64(1, second),
        "bpf_local_irq_restore", mov64(1, first), "bpf_local_irq_restore", mov64(0, 0))
    flag = 0x200 if kernel.arch.name == "x86_64" else 0x80  # EFLAGS.IF is set where DAIF.I is clear
    was, then = (kernel.space.read_u64(word) & flag for word in (first, second))
    assert was != then and (was == flag) == (kernel.arch.name == "x86_64")


def offset(kernel, struct, member):
    btf = kernel.types.btf
    return btf.find_member(btf.find(struct), member).bit_offset // 8


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_untrusted_pointers_are_followed_with_loads_that_may_fail(kernel, engine):
    """task->mm->pgd is there, and below the parent of a task without one everything reads as 0."""
    def follow(*path):
        """Whether a program finds a pointer that loads one from the current task, then from what it got, ..."""
        insns = [Insn(CALL, imm=158)]
        insns += [Insn(bpf.BPF_LDX | bpf.BPF_MEM | bpf.BPF_DW, 0, 0, offset(kernel, *step)) for step in path]
        insns += [Insn(0xBF, 1, 0), Insn(0xB7), Insn(bpf.BPF_JMP | bpf.BPF_JEQ, 1, 0, 1, 0),
                  Insn(0xB7, 0, 0, 0, 1), EXIT]
        spec = ProgSpec("p", "syscall", ProgType.SYSCALL, insns, sleepable=True, license="GPL", subprogs=[("p", 0)])
        prog = kernel.load_prog(spec, SimpleNamespace(btf=None), [], engine)
        result = kernel.run(prog)
        assert not result.oops
        return bool(result.retval)

    assert follow(("task_struct", "mm"), ("mm_struct", "pgd"))
    nobody = [("task_struct", "real_parent")] * 4
    assert not follow(*nobody, ("task_struct", "mm"), ("mm_struct", "pgd"))


def test_getpgid_of_the_caller_only(kernel):
    wrapper = {"x86_64": "__x64_sys_getpgid", "arm64": "__arm64_sys_getpgid"}[kernel.arch.name]
    regs = kernel.slab.kzalloc(512)
    view = kernel.types.view("pt_regs", regs)

    def ask(pid):
        if kernel.arch.name == "x86_64":
            view.di = pid
        else:
            kernel.space.write_u64(regs, pid)
        return kernel.machine.call(wrapper, regs)

    assert ask(0) == kernel.current_task().pid
    assert ask(4711) == (1 << 64) - ESRCH
