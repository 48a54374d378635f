"""How fast the house is: `python -m emu.bench` (make bench) prints one table, measured on this host, with the goals.

Every figure is the best of a few rounds; ratios between two of them come from the same run. Nothing here is a test.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import images
from arch import bpf_isa as bpf
from arch.bpf_isa import Insn
from emu.kernel import Kernel, boot
from kernel_model.bpf.fixups import Function, Slot
from kernel_model.bpf.prog import Prog, Verdict, kfunc_ids
from kernel_model.bpf.program import BPF_F_MMAPABLE, MapSpec, MapType, ProgSpec, ProgType
from kernel_model.mm.mmap import mm_get_unmapped_area
from kernel_model.mm.vma import MmStruct, VmArea

ARENA_START = 1 << 44
PAGES = 64  # arena pages that are touched for the first time
KCALLS = 20_000
JIT_ROUNDS, INTERP_ROUNDS = 40_000_000, 30_000
ROUNDS = 3
VMA_ROUNDS = 1_000
FAULT_ROUNDS = 8  # the first one also translates the handlers' code
_EXIT = Insn(bpf.BPF_JMP | bpf.BPF_EXIT)
_CALL = bpf.BPF_JMP | bpf.BPF_CALL


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what, how much, the goal it is held against, whether it is met."""

    what: str
    value: str
    goal: str
    met: bool | None


def _imm64(dst: int, value: int) -> list[Insn]:
    return [Insn(bpf.LD_IMM64, dst, 0, 0, bpf.s32(value)), Insn(0, imm=bpf.s32(value >> 32))]


def _load(kernel: Kernel, name: str, insns: list[Insn], engine: str, arena: bool = False) -> Prog:
    """A program that needs no verifier: all of it runs, nothing is rewritten."""
    spec = ProgSpec(name, "syscall", ProgType.SYSCALL, insns, subprogs=[(name, 0)])
    maps = []
    if arena:
        new = kernel.bpf.create_map(
            MapSpec("arena", MapType.ARENA, 0, 0, PAGES, BPF_F_MMAPABLE, ARENA_START)
        )
        maps.append(new)
    verdict = Verdict([Slot(True)] * len(insns), [Function(name, 0, len(insns), 0)], 0 if arena else None, {}, "")
    return kernel.programs.load(spec, maps, verdict, kernel.types.btf, engine)


def _loop(body: list[Insn], count: int) -> list[Insn]:
    """`body` `count` times; R6 counts down."""
    return [
        Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 6, 0, 0, count), *body, Insn(bpf.BPF_ALU64 | bpf.BPF_ADD, 6, 0, 0, -1),
        Insn(bpf.BPF_JMP | bpf.BPF_JNE, 6, 0, -len(body) - 2, 0), Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 0), _EXIT,
    ]  # fmt: skip


def _mix() -> list[Insn]:
    """xorshift: what images/bpf/compute.bpf.c does."""
    def op(code: int, dst: int, src: int = 0, imm: int = 0) -> Insn:
        return Insn(bpf.BPF_ALU64 | code | (bpf.BPF_X if src else 0), dst, src, 0, imm)

    return [
        op(bpf.BPF_MOV, 3, 1), op(bpf.BPF_LSH, 3, imm=13), op(bpf.BPF_XOR, 1, 3), op(bpf.BPF_MOV, 3, 1),
        op(bpf.BPF_RSH, 3, imm=7), op(bpf.BPF_XOR, 1, 3), op(bpf.BPF_ADD, 2, 1), op(bpf.BPF_XOR, 2, 3),
        op(bpf.BPF_ADD, 1, 2),
    ]  # fmt: skip


def _best(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the quickest of several calls."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def _process(*command: str) -> float:
    """Seconds of a whole process; infinity where it failed (status 1 is a finding, and fine)."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], check=False, capture_output=True)
    return time.perf_counter() - start if done.returncode in (0, 1) else float("inf")


def _boot_cpu(arch: str) -> float:
    """CPU seconds of boot() in a fresh process, imports not counted."""
    code = f"import time, emu; t = time.process_time(); emu.boot('{arch}'); print(time.process_time() - t)"
    return min(
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(ROUNDS)
    )


def _engine_rate(kernel: Kernel, engine: str, count: int) -> float:
    """BPF instructions per second in a loop of arithmetic."""
    body = _mix()
    prog = _load(kernel, f"mix_{engine}", [*_imm64(1, 0x9E3779B97F4A7C15), *_imm64(2, 1), *_loop(body, count)], engine)
    return (len(body) + 2) * count / _best(lambda: kernel.run(prog))


def _kcall(kernel: Kernel) -> float:
    """Seconds of one kcall: a helper in a loop of JITed code, the loop itself taken off."""
    helper = _load(kernel, "kcalls", _loop([Insn(_CALL, imm=8)], KCALLS), "jit")
    empty = _load(kernel, "nothing", _loop([Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 0)], KCALLS), "jit")
    return (_best(lambda: kernel.run(helper)) - _best(lambda: kernel.run(empty))) / KCALLS


def _arena_reads(kernel: Kernel, name: str, function: str) -> Prog:
    """A program with a fresh arena that hands each of its pages to a kfunc."""
    kfunc = Insn(_CALL, 0, bpf.BPF_PSEUDO_KFUNC_CALL, 0, kfunc_ids(kernel.types.btf)[function])
    body = [
        Insn(bpf.LD_IMM64, 1, bpf.BPF_PSEUDO_MAP_FD), Insn(0), Insn(bpf.BPF_ALU64 | bpf.BPF_MOV | bpf.BPF_X, 2, 7),
        Insn(bpf.BPF_ALU64 | bpf.BPF_ADD, 7, 0, 0, 4096), kfunc,
    ]  # fmt: skip
    insns = [i.copy() for i in (*_imm64(7, ARENA_START), *_loop(body, PAGES))]
    return _load(kernel, name, insns, "jit", arena=True)


def _bare_fault(kernel: Kernel) -> float:
    """Seconds of a fault that only the exception table answers, from the instruction to behind it: no kcall on the
    way. A kfunc's copy_from_kernel_nofault() of pages that are not there, less its calls themselves."""
    prog = _arena_reads(kernel, "bare", "bpf_kfunc_arena_read_nofault")
    nothing = _load(kernel, "no_fault", _loop([Insn(bpf.BPF_ALU64 | bpf.BPF_MOV, 0)], PAGES), "jit")
    kernel.run(prog)
    return (_best(lambda: kernel.run(prog), 10) - _best(lambda: kernel.run(nothing), 10)) / PAGES


def _arena_fault(kernel: Kernel) -> float:
    """Seconds of one recovered fault: a kfunc reads fresh arena pages, then the same pages again.

    All programs are loaded beforehand: loading one makes the engine forget translated code, and the first run after
    it would also pay for translating the fault handlers anew, some 15 us for each of the 64 faults.
    """
    times = []
    for prog in [_arena_reads(kernel, f"faults{n}", "bpf_kfunc_arena_read") for n in range(FAULT_ROUNDS)]:
        first = _best(lambda prog=prog: kernel.run(prog), 1)  # type: ignore[misc]
        times.append((first - _best(lambda prog=prog: kernel.run(prog))) / PAGES)  # type: ignore[misc]
    return min(times)


def _schedules(arch: str, profile: str, count: int = 300) -> float:
    """Schedules of scenario task-vma in a second, of all strategies, each from exec() to the last page given back."""
    from emu.explore.oracles import STRATEGIES
    from emu.scenarios.task_vma import Experiment

    experiment = Experiment(arch, profile)
    experiment(experiment.oracle("default", 0))
    strategies = list(STRATEGIES.values())

    def many() -> None:
        for seed in range(count):
            experiment(strategies[seed % len(strategies)](seed))

    return count / _best(many, 2)


def _vmas(kernel: Kernel, count: int) -> tuple[float, float, float]:
    """Seconds to find a VMA by address, to look for a hole that is only below all of them, and to put one in and take
    it out again, in an address space of `count` VMAs of one page with holes of one page between them."""
    mm = MmStruct(kernel.init_mm, kernel.objects, "bench")
    top = mm.mmap_base
    for i in range(count):
        mm.holes.insert(VmArea(mm, top - (2 * i + 1) * 4096, top - 2 * i * 4096, 0))
    step = max(count // VMA_ROUNDS, 1)
    places = [top - 2 * (i * step % count) * 4096 - 4096 for i in range(VMA_ROUNDS)]

    def find() -> None:
        for place in places:
            mm.find_vma(place)

    def hole() -> None:
        for _ in range(VMA_ROUNDS // 10):
            mm_get_unmapped_area(mm, 0, 8192, 0)

    def insert() -> None:
        for place in places:
            new = VmArea(mm, place - 4096, place, 0)
            mm.holes.insert(new)
            mm_get_unmapped_area(mm, 0, 4096, 0)
            mm.holes.remove(new)

    return _best(find) / VMA_ROUNDS, _best(hole) / (VMA_ROUNDS // 10), _best(insert) / VMA_ROUNDS


def _rounds(kernel: Kernel, what: int, count: int) -> float:
    """Seconds of one round of images/user/rounds.c: 0 a system call, 1 the other CPU's turn and back, 2 a fault."""
    def run(times: int) -> float:
        numbers = {"what": what.to_bytes(4, "little"), "count": times.to_bytes(4, "little")}
        return _best(lambda: kernel.run_user("rounds", numbers), 5)

    run(count)
    return (run(count) - run(1)) / count


def measure(arch: str) -> list[Row]:
    """All rows of one architecture."""
    kernel = boot(arch)
    rows = []
    cpu = _boot_cpu(arch)
    rows.append(Row("boot to ready (CPU)", f"{cpu * 1e3:.1f} ms", "< 100 ms", cpu < 0.1))
    scenario = Path(images.__file__).parent / "bpf" / "arena_oob.bpf.o"
    whole = min(_process("-m", "emu.cli", "run", str(scenario), "--arch", arch) for _ in range(2))
    rows.append(Row("kemu run arena_oob.bpf.o, whole process", f"{whole:.2f} s", "< 1 s", whole < 1))
    bare = _bare_fault(kernel)
    rows.append(Row("bare kernel fault, delivery to return", f"{bare * 1e6:.1f} us", "", None))
    fault = _arena_fault(kernel)
    rows.append(Row("recovered arena fault", f"{fault * 1e6:.0f} us", "< 100 us", fault < 100e-6))
    for profile in ("v7.0", "v7.1"):
        rate = _schedules(arch, profile)
        rows.append(Row(f"schedules of task-vma, {profile}", f"{rate:.0f}/s", ">= 300/s", rate >= 300))
    for what, name in enumerate(("system call", "sched_yield() to the other CPU and back", "user page fault")):
        rows.append(Row(f"{name}, round trip", f"{_rounds(kernel, what, 500) * 1e6:.1f} us", "", None))
    kcall = _kcall(kernel)
    rows.append(Row("kcall", f"{kcall * 1e6:.2f} us", "< 3 us", kcall < 3e-6))
    jit, interp = _engine_rate(kernel, "jit", JIT_ROUNDS), _engine_rate(kernel, "interp", INTERP_ROUNDS)
    goal, met = ("> 500 M/s", jit > 500e6) if arch == "x86_64" else ("", None)
    rows.append(Row("JITed BPF instructions", f"{jit / 1e6:.0f} M/s", goal, met))
    rows.append(Row("JIT over interpreter", f"{jit / interp:.0f}x", "> 100x", jit > 100 * interp))
    for count in (10, 1_000, 100_000):
        found, hole, inserted = _vmas(kernel, count)
        value = f"{found * 1e6:.1f}, {hole * 1e6:.0f}, {inserted * 1e6:.0f} us"
        rows.append(Row(f"{count} VMAs: find, hole, map and unmap", value, "", None))
    return rows


def main() -> int:
    """Print the tables; 0 always: a slow host is no error."""
    for arch in ("x86_64", "arm64"):
        print(arch)
        for row in measure(arch):
            mark = "" if row.met is None else ("ok" if row.met else "MISSED")
            print(f"  {row.what:<42}{row.value:>18}   {row.goal:<10} {mark}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
