"""Programs of context_programs.py for one kernel."""

import importlib.util
import sys
from pathlib import Path

import pytest

from kernel_model import profiles
from kernel_model.bpf.program import ProgSpec
from kernel_model.bpf.verifier import bpf_check
from kernel_model.bpf.verifier.errors import VerifierRejected
from kernel_model.types import Btf

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cp():
    """The module context_programs."""
    name = "verifier_context_programs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / "context_programs.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def image_btf():
    return Btf((HERE.parents[3] / "images" / "vmlinux.btf").read_bytes(), "vmlinux")


@pytest.fixture(scope="session")
def outcome(cp, image_btf):
    """outcome(traced or steps, profile): the reason why a program is refused, None where it is accepted."""

    def run(program, profile="v6.18", log=False):
        if not isinstance(program, cp.Traced):
            program = cp.Traced(program, cp.ProgType.SYSCALL, True, 0)
        spec = ProgSpec("p", "", program.type, cp.build(program.steps, image_btf), program.attach_type,
                        sleepable=program.sleepable, license="GPL", subprogs=[("p", 0)],
                        attach_btf_id=program.attach_btf_id(image_btf))
        try:
            done = bpf_check(spec, [], None, image_btf, profiles.get(profile), 2)
        except VerifierRejected as error:
            return error.log if log else (error.errno, error.reason)
        return done.log if log else None

    return run
