"""The kernel this machine runs, as the judge of random programs."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def oracle():
    """The module bpf_syscall; skips where this machine's kernel cannot be asked."""
    spec = importlib.util.spec_from_file_location("oracle_bpf_syscall", Path(__file__).with_name("bpf_syscall.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if reason := module.unavailable():
        pytest.skip(reason)
    return module
