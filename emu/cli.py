"""The `kemu` command. Exit status: 0 it went well, 1 the kernel objected (oops, rejection, error), 2 bad input.

Bad input is one line on standard error, whoever finds it: argparse, the file system, the loader or a token's check.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from emu import scenario_file, scenarios
from emu.explore.oracles import STRATEGIES
from emu.explore.token import looks_like_token, parse
from emu.image_files import IMAGES
from emu.kernel import Kernel, RunResult, boot
from emu.report.tables import table
from emu.scenarios.base import ScenarioResult
from kernel_model import profiles
from kernel_model.bpf.kfunc_ids import absent_kfuncs
from kernel_model.bpf.object import BpfObject, load_object
from kernel_model.errors import KemuError

ARCHES = ("x86_64", "arm64")
_STATUS = "exit status: 0 it went well, 1 the kernel objected (oops, rejection, deadlock), 2 bad input"
_MAX_DIGITS = 18  # of a number on the command line


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, and that takes no option for another that begins alike."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, epilog=_STATUS, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong; status 2."""
        self.exit(2, f"kemu: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kemu", description="A virtual Linux kernel on emulated CPUs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def machine(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--arch", default="x86_64", metavar="ARCH", help="x86_64 (default) or arm64")
        sub.add_argument("--profile", default=profiles.DEFAULT, metavar="KERNEL",
                         help=f"see kemu profiles ({profiles.DEFAULT})")

    commands.add_parser("list", help="scenarios and BPF objects that come with kemu")
    commands.add_parser("profiles", help="kernels that kemu can be")
    run = commands.add_parser("run", help="run a scenario, a .bpf.o or a .py file")
    run.add_argument("what", metavar="SCENARIO|FILE.bpf.o|FILE.py")
    run.add_argument("prog", nargs="?", metavar="PROG", help="one program of the object (default: all)")
    machine(run)
    run.set_defaults(arch=None, profile=None)  # a replay token names its own
    run.add_argument("--engine", metavar="ENGINE", help="jit (default) or interp")
    run.add_argument("--schedule", metavar="NAME|TOKEN",
                     help=f"of task-vma: {', '.join(_schedules())}, or a replay token")
    run.add_argument("--seed", type=_count, metavar="N",
                     help=f"of schedules that are drawn by lot: {', '.join(STRATEGIES)} (0)")
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
    if len(text) > _MAX_DIGITS:
        raise argparse.ArgumentTypeError(f"a number of more than {_MAX_DIGITS} digits")
    return int(text)


def _schedules() -> tuple[str, ...]:
    return scenarios.task_vma_story.SCHEDULES


def main(argv: list[str] | None = None) -> int:
    """Command line; the exit status. Without `argv` it is the command itself: an interrupt ends it at once."""
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to clean up, and guest code may run for long
    args = _parser().parse_args(argv)
    try:
        if sys.stdout is None:
            raise KemuError("standard output is closed")
        status = _COMMANDS[args.command](args)
        sys.stdout.flush()
    except KemuError as error:
        print(f"kemu: {error}", file=sys.stderr)
        return 1 if type(error).__name__ == "VerifierRejected" else 2
    except BrokenPipeError:  # who reads has seen enough
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        print(f"kemu: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return status


def _drop_output() -> None:
    """What is still buffered goes nowhere, so that the interpreter's own flush at its end does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


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
    _check_fit(args)
    if args.what.endswith(".py"):
        return 0 if scenario_file.run(Path(args.what), lambda: _boot(args)) else 1
    if args.what.endswith(".o"):
        return _run_object(args)
    result = _run_scenario(args)
    if args.json:
        print(json.dumps(_plain(result), indent=2))
    else:
        _print_scenario(result)
    return 0 if result.ok else 1


def _check_fit(args: argparse.Namespace) -> None:
    """KemuError for an option that what is run has no use for; and fill in the defaults of the others."""
    is_file, is_object = args.what.endswith(".py"), args.what.endswith(".o")
    if args.prog is not None and not is_object:
        raise KemuError(f"{args.what}: takes no program name, got {args.prog!r}")
    if is_file and (args.json or args.engine is not None):
        option = "--json" if args.json else "--engine"
        raise KemuError(f"{args.what}: {option} is not for a scenario file, which prints and loads for itself")
    tasks = not is_file and not is_object and hasattr(scenarios.get(args.what), "SCHEDULES")
    for option, value in (("--schedule", args.schedule), ("--seed", args.seed)):
        if value is not None and not tasks:
            raise KemuError(f"{args.what} has no schedules to choose from: {option} {value}")
    if args.seed is not None:
        args.schedule = "random" if args.schedule is None else args.schedule
        if args.schedule in _schedules() and args.schedule not in STRATEGIES or looks_like_token(args.schedule):
            raise KemuError(f"--seed is for {', '.join(STRATEGIES)}: schedule {args.schedule} is not drawn by lot")
    recorded = parse(args.schedule) if args.schedule is not None and looks_like_token(args.schedule) else None
    args.arch = args.arch or (recorded.arch if recorded else ARCHES[0])
    if args.profile is None:
        args.profile = recorded.profile if recorded else profiles.DEFAULT
    args.engine = "jit" if args.engine is None else args.engine


def _run_scenario(args: argparse.Namespace) -> ScenarioResult:
    scenario = scenarios.get(args.what)
    result: ScenarioResult
    if hasattr(scenario, "SCHEDULES"):
        schedule = scenario.DEFAULT_SCHEDULE if args.schedule is None else args.schedule
        result = scenario.run(args.arch, args.profile, args.engine, schedule, args.seed or 0)
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
    names = list(loaded.progs) if args.prog is None else [args.prog]
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
