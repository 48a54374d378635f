"""JIT and interpreter run the same programs in the same kernel: values, faults, frames."""

import re

import pytest

import emu
from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.prog import Verdict, kfunc_ids
from kernel_model.bpf.program import ProgSpec, ProgType

EXIT = Insn(bpf.BPF_JMP | bpf.BPF_EXIT)
CALL = bpf.BPF_JMP | bpf.BPF_CALL


def mov(dst, value):
    return [Insn(bpf.LD_IMM64, dst, 0, 0, bpf.s32(value)), Insn(0, imm=bpf.s32(value >> 32))]


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def kernel(request):
    return emu.boot(arch=request.param)


def load(kernel, engine, *functions):
    """Functions of (name, instructions, stack depth), already verified as it were."""
    insns, placed = [], []
    for name, body, depth in functions:
        placed.append(Function(name, len(insns), len(insns) + len(body), depth))
        insns += body
    spec = ProgSpec(functions[0][0], "syscall", ProgType.SYSCALL, [i.copy() for i in insns],
                    subprogs=[(f.name, f.start) for f in placed])
    verdict = Verdict([Slot(True)] * len(insns), placed, None, {}, "")
    return kernel.programs.load(spec, [], verdict, kernel.types.btf, engine)


def kfunc(kernel, name):
    return Insn(CALL, 0, bpf.BPF_PSEUDO_KFUNC_CALL, 0, kfunc_ids(kernel.types.btf)[name])


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_a_kfunc_in_guest_text_reads_memory(kernel, engine):
    word = kernel.slab.kzalloc(8)
    kernel.space.write_u64(word, 0x12345678)
    prog = load(kernel, engine, ("reader", [*mov(1, word), kfunc(kernel, "bpf_kfunc_read_kern"), EXIT], 0))
    result = kernel.run(prog)
    assert (result.retval, result.error, result.oops) == (0x12345678, 0, False)


@pytest.mark.parametrize("engine", ["jit", "interp"])
def test_a_helper_is_a_kcall(kernel, engine):
    result = kernel.run(load(kernel, engine, ("pid", [Insn(CALL, imm=8), Insn(7, 0, 0, 0, 41), EXIT], 0)), cpu=1)
    assert result.retval == 42


def test_an_oops_below_a_subprogram_shows_the_same_bpf_frames(kernel):
    traces = []
    for engine in ("jit", "interp"):
        main = [*mov(1, 0xFF0), Insn(CALL, 0, bpf.BPF_PSEUDO_CALL, 0, 1), EXIT]
        sub = [kfunc(kernel, "bpf_kfunc_read_kern"), EXIT]
        result = kernel.run(load(kernel, engine, ("outer", main, 16), ("inner", sub, 0)))
        assert result.oops and "bpf_kfunc_read_kern" in result.dmesg
        trace = result.dmesg.lower().split("call trace:")[1]
        traces.append([line.strip() for line in trace.splitlines() if "bpf_prog_" in line and "?" not in line])
    names = [re.sub(r"\+.*", "", re.sub(r"_[0-9a-f]{16}_", "_", line)) for line in traces[0]]
    assert names[:3] == ["bpf_prog_inner", "bpf_prog_outer", "bpf_prog_test_run_syscall"]
    assert traces[0] == traces[1]


def test_a_loop_of_the_jit_and_of_the_interpreter_count_the_same(kernel):
    body = [Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 0), Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 1, 0, 0, 1000),
            Insn(bpf.BPF_ALU64 | bpf.BPF_ADD | bpf.BPF_X, 0, 1), Insn(bpf.BPF_ALU64 | bpf.BPF_ADD, 1, 0, 0, -1),
            Insn(bpf.BPF_JMP | bpf.BPF_JNE, 1, 0, -3, 0), EXIT]  # fmt: skip
    results = [kernel.run(load(kernel, engine, ("loop", body, 0))).retval for engine in ("jit", "interp")]
    assert results == [500500, 500500]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("op", [bpf.BPF_DIV, bpf.BPF_MOD])
@pytest.mark.parametrize("signed", [0, 1])
def test_divisions_that_no_cpu_likes(kernel, wide, op, signed):
    """By zero, and the smallest number by -1: no trap, BPF's results, on both engines."""
    bits, cls = (64, bpf.BPF_ALU64) if wide else (32, bpf.BPF_ALU)
    smallest, minus_one = 1 << bits - 1, (1 << 64) - 1
    cases = [(7, 0), (smallest, minus_one), (-9 & (1 << bits) - 1, 2)]
    for a, b in cases:
        program = [*mov(0, a), *mov(1, b), Insn(cls | op | bpf.BPF_X, 0, 1, signed), EXIT]
        got = [kernel.run(load(kernel, engine, ("div", program, 0))) for engine in ("jit", "interp")]
        assert not got[0].oops and got[0].retval == got[1].retval, (a, b)


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize(
    "path, variables", [("arena_oob", ["res"]), ("arena_golden", ["res"]), ("compute", ["result"])]
)
def test_object_files_give_the_same_on_both_engines(arch, path, variables):
    """Values and whole reports, with the frames of page faults that the interpreter never takes."""
    seen = []
    for engine in ("jit", "interp"):
        kernel = emu.boot(arch=arch)
        loaded = kernel.load(f"images/bpf/{path}.bpf.o", engine=engine)
        if path == "compute":
            loaded.write("rounds", (500).to_bytes(4, "little"))
        runs = []
        for name, prog in loaded.progs.items():
            result = kernel.run(prog)
            contents = [loaded.read(v) for v in variables]
            runs.append((name, result.retval, result.error, result.oops, result.stderr, contents))
        seen.append(runs)
    assert seen[0] == seen[1]
