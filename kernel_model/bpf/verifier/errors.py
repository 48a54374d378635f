"""How verification ends badly: inside (Reject) and for callers (VerifierRejected)."""

from __future__ import annotations

from kernel_model.errors import KernelErrno


class Reject(Exception):
    """Raised inside the verifier once the reason is in the log. `errno` is positive."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno
        self.reason = reason


class VerifierRejected(KernelErrno):
    """BPF_PROG_LOAD failed in the verifier: `errno` (positive), `log` as the kernel would have written it,
    `reason` the line that says why (also at log level 0)."""

    def __init__(self, errno: int, prog: str, reason: str, log: str) -> None:
        super().__init__(errno, f"verifier rejects program {prog!r}: {reason}")
        self.prog = prog
        self.reason = reason
        self.log = log
