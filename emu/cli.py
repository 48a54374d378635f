"""The `kemu` command. Exit status: 0 it went well, 1 the kernel objected (oops, rejection, error), 2 bad input."""

from __future__ import annotations

import argparse
import dataclasses
import json
import runpy
import sys
from pathlib import Path
from typing import Any

from emu import scenarios
from emu.image_files import IMAGES
from emu.kernel import Kernel, RunResult, boot
from emu.report.tables import table
from emu.scenarios.base import ScenarioResult
from kernel_model import profiles
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.object import BpfObject, load_object
from kernel_model.errors import KemuError

ARCHES = ("x86_64", "arm64")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kemu", description="A virtual Linux kernel on emulated CPUs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def machine(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--arch", default="x86_64", metavar="ARCH", help="x86_64 (default) or arm64")
        sub.add_argument("--profile", default=profiles.DEFAULT, metavar="KERNEL", help="see kemu profiles")

    commands.add_parser("list", help="scenarios and BPF objects that come with kemu")
    commands.add_parser("profiles", help="kernels that kemu can be")
    run = commands.add_parser("run", help="run a scenario, a .bpf.o or a .py file")
    run.add_argument("what", metavar="SCENARIO|FILE.bpf.o|FILE.py")
    run.add_argument("prog", nargs="?", metavar="PROG", help="one program of the object (default: all)")
    machine(run)
    run.add_argument("--engine", default="jit", metavar="ENGINE", help="jit (default) or interp")
    run.add_argument("--schedule", metavar="NAME|TOKEN", help="of a scenario with tasks: its name, or a replay token")
    run.add_argument("--seed", type=_count, default=0, metavar="N", help="of schedules that are drawn by lot (0)")
    run.add_argument("--json", action="store_true", help="results as JSON")
    compare = commands.add_parser("compare", help="the designs of a scenario over many schedules")
    compare.add_argument("what", metavar="SCENARIO")
    compare.add_argument("--arch", default="x86_64", metavar="ARCH", help="x86_64 (default) or arm64")
    compare.add_argument("--engine", default="jit", metavar="ENGINE", help="jit (default) or interp")
    compare.add_argument("--schedules", type=_count, default=300, metavar="N", help="for each design (300)")
    compare.add_argument("--seed", type=_count, default=0, metavar="N", help="where the random ones begin (0)")
    compare.add_argument("--json", action="store_true", help="results as JSON")
    verify = commands.add_parser("verify", help="what the verifier says of an object's programs")
    verify.add_argument("file", metavar="FILE.bpf.o")
    verify.add_argument("-l", "--log-level", type=int, default=0, choices=(0, 1, 2), metavar="0|1|2")
    machine(verify)
    dump = commands.add_parser("dump", help="a program as rewritten, or as machine code")
    dump.add_argument("form", choices=("xlated", "jited"))
    dump.add_argument("file", metavar="FILE.bpf.o")
    dump.add_argument("prog", metavar="PROG")
    machine(dump)
    demo = commands.add_parser("demo", help="both scenarios on both architectures, before and after")
    demo.set_defaults(arch=None)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"not a number of at least 0: {text!r}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Command line; the exit status."""
    args = _parser().parse_args(argv)
    try:
        return _COMMANDS[args.command](args)
    except KemuError as error:
        print(f"kemu: {error}", file=sys.stderr)
        return 1 if type(error).__name__ == "VerifierRejected" else 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _list(args: argparse.Namespace) -> int:
    rows = [(name, module.SUMMARY) for name, module in scenarios.SCENARIOS.items()]
    for path in sorted((IMAGES / "bpf").glob("*.bpf.o")):
        rows.append((f"images/bpf/{path.name}", "BPF object"))
    table(("NAME", "WHAT"), rows)
    return 0


def _profiles(args: argparse.Namespace) -> int:
    rows = []
    for profile in profiles.PROFILES.values():
        mark = " (default)" if profile.name == profiles.DEFAULT else ""
        rows.append((profile.name + mark, profile.release, profile.summary))
    table(("PROFILE", "RELEASE", "WHAT"), rows)
    return 0


def _run(args: argparse.Namespace) -> int:
    if args.what.endswith(".py"):
        return _run_file(args)
    if args.what.endswith(".o"):
        return _run_object(args)
    result = _run_scenario(args)
    if args.json:
        print(json.dumps(_plain(result), indent=2))
    else:
        _print_scenario(result)
    return 0 if result.ok else 1


def _run_scenario(args: argparse.Namespace) -> ScenarioResult:
    scenario = scenarios.get(args.what)
    result: ScenarioResult
    if hasattr(scenario, "SCHEDULES"):
        schedule = args.schedule or scenario.DEFAULT_SCHEDULE
        result = scenario.run(args.arch, args.profile, args.engine, schedule, args.seed)
    elif args.schedule is not None:
        raise KemuError(f"{args.what} has no schedules to choose from")
    else:
        result = scenario.run(args.arch, args.profile, args.engine)
    return result


def _compare(args: argparse.Namespace) -> int:
    module = scenarios.comparison(args.what)
    if not args.schedules:
        raise KemuError("--schedules: at least 1")
    rows = module.compare(args.arch, args.schedules, args.seed, args.engine)
    if args.json:
        print(json.dumps(_plain(rows), indent=2))
    else:
        table(module.headers(), [module.cells(row) for row in rows])
    return 0


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return getattr(value, "value", value) if not isinstance(value, int | str | bool | type(None)) else value


def _print_scenario(result: ScenarioResult, first_text: bool = True) -> None:
    print(f"{result.name} on {result.arch}, {result.profile}")
    table(("STEP", "WHAT", "OUTCOME", "DETAIL"), [(r.step, r.what, r.outcome.value, r.detail) for r in result.rows])
    if result.report:
        print("\n".join(["", *result.report]))
    shown = next((r for r in result.rows if r.outcome.value in ("oops", "recovered")), None)
    if shown is not None and first_text:
        source = "the kernel log" if shown.dmesg else "the program's stderr stream"
        print(f"\nWhat {source} says of {shown.step}:\n")
        print((shown.dmesg or shown.stream).rstrip())


def _boot(args: argparse.Namespace) -> Kernel:
    return boot(args.arch, args.profile)


def _run_object(args: argparse.Namespace) -> int:
    kernel = _boot(args)
    kernel.insmod("bpf_testmod")
    loaded = kernel.load(args.what, args.engine)
    names = [args.prog] if args.prog else list(loaded.progs)
    if not names:
        marked = ", ".join(spec.name for spec in loaded.object.progs)
        raise KemuError(f"{args.what}: nothing to run, for SEC(\"?...\") keeps every program unloaded: {marked}")
    results: list[RunResult] = [kernel.run(loaded.prog(name)) for name in names]
    if args.json:
        print(json.dumps(_plain(results), indent=2))
    else:
        for result in results:
            _print_run(result)
    return 0 if all(not r.oops and not r.error and r.signal is None for r in results) else 1


def _print_run(result: RunResult) -> None:
    ending = "oops" if result.oops else f"error {result.error}" if result.error else f"returned {result.retval}"
    print(f"{result.prog}: {ending}")
    for title, text in (("stdout", result.stdout), ("stderr", result.stderr), ("dmesg", result.dmesg)):
        for line in text.splitlines():
            print(f"  {title}: {line}" if line else f"  {title}:")


def _run_file(args: argparse.Namespace) -> int:
    path = Path(args.what)
    if not path.is_file():
        raise KemuError(f"{path}: no such file")
    try:
        names = runpy.run_path(str(path))
    except SyntaxError as error:
        raise KemuError(f"{path}:{error.lineno}: {error.msg}") from None
    scenario = names.get("scenario")
    if not callable(scenario):
        raise KemuError(f"{path}: defines no function scenario(kernel)")
    verdict = scenario(_boot(args))
    return 0 if verdict is None or verdict else 1


def _open(args: argparse.Namespace, kernel: Kernel) -> BpfObject:
    return load_object(args.file, kernel.types.btf, full_range=kernel.profile.ldimm64_full_range,
                       absent=absent_kfuncs(kernel.profile))


def _verify(args: argparse.Namespace) -> int:
    from kernel_model.bpf.verifier.errors import VerifierRejected

    kernel = _boot(args)
    obj = _open(args, kernel)
    maps = kernel.create_maps(obj)
    rows, worst = [], 0
    for spec in obj.progs:
        try:
            prog = kernel.load_prog(spec, obj, maps, log_level=args.log_level)
            log, verdict, insns = prog.log, "success", str(len(prog.xlated.insns))
        except VerifierRejected as error:
            log, verdict, insns, worst = error.log, f"failure ({error.reason})", "-", 1
        if log:
            print(f"{spec.name}:\n{log.rstrip()}")
        rows.append((Path(args.file).name, spec.name, verdict, insns))
    table(("File", "Program", "Verdict", "Insns"), rows)
    return worst


def _dump(args: argparse.Namespace) -> int:
    from emu.report import dump

    kernel = _boot(args)
    obj = _open(args, kernel)
    spec = obj.prog(args.prog)
    prog = kernel.load_prog(spec, obj, kernel.create_maps(obj))
    lines = dump.xlated(prog) if args.form == "xlated" else dump.jited(prog, kernel)
    print("\n".join(lines))
    return 0


def _demo(args: argparse.Namespace) -> int:
    for arch in ARCHES:
        for profile in ("v6.18", "v7.2"):
            result = scenarios.arena_oob.run(arch, profile)
            _print_scenario(result, first_text=profile == "v7.2")
            print()
        for profile in ("v7.0", "v7.1"):
            _print_scenario(scenarios.task_vma_story.run(arch, profile))
            print()
    module = scenarios.comparison(scenarios.task_vma_story.NAME)
    table(module.headers(), [module.cells(row) for row in module.compare("x86_64", 300, 0)])
    return 0


_COMMANDS = {"list": _list, "profiles": _profiles, "run": _run, "verify": _verify, "dump": _dump, "demo": _demo,
             "compare": _compare}

if __name__ == "__main__":
    sys.exit(main())
