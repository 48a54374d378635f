"""Replay tokens: a schedule as one word that a person can put into a commit message.

    kemu1/task-vma/x86_64/v7.0/74/12=1,31=0

Version of the format, scenario, architecture, profile, number of decisions of the run, and the decisions that were not
run-until-block: which one, and the index of the option that it took. The number of decisions is the check: a run that
makes another number of them was not the one that was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel_model.errors import KemuError

_VERSION = "kemu1"
_MAX_DIGITS = 9  # of a number: no run makes a thousand million decisions


class TokenError(KemuError):
    """A token that cannot be read, or that was made for something else."""


@dataclass(frozen=True, slots=True)
class Token:
    """One schedule of one scenario."""

    scenario: str
    arch: str
    profile: str
    decisions: int
    deviations: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        steps = ",".join(f"{number}={choice}" for number, choice in self.deviations) or "-"
        return f"{_VERSION}/{self.scenario}/{self.arch}/{self.profile}/{self.decisions}/{steps}"

    def check(self, scenario: str, arch: str, profile: str) -> None:
        """TokenError where the token belongs to another scenario, architecture or kernel."""
        for what, mine, asked in (("scenario", self.scenario, scenario), ("architecture", self.arch, arch),
                                  ("kernel", self.profile, profile)):
            if mine != asked:
                raise TokenError(f"the token is for {what} {mine}, not {asked}: {self}")


def looks_like_token(text: str) -> bool:
    """Whether a person seems to mean a token, readable or not."""
    return "/" in text


def parse(text: str) -> Token:
    """Read a token. TokenError says which part is wrong."""
    parts = text.strip().split("/")
    if not parts[0].startswith("kemu"):
        raise TokenError(f"not a replay token (it would begin with {_VERSION}/): {text!r}")
    if parts[0] != _VERSION:
        raise TokenError(f"a token of another version: {parts[0]!r}, this kemu reads {_VERSION}: {text!r}")
    if len(parts) != 6:
        raise TokenError(f"a token has 6 parts, separated by /, this has {len(parts)}: {text!r}")
    _, scenario, arch, profile, decisions, steps = parts
    if not _is_number(decisions):
        raise TokenError(f"the number of decisions is {decisions!r}: {text!r}")
    return Token(scenario, arch, profile, int(decisions), _steps(steps, int(decisions), text))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _steps(steps: str, decisions: int, text: str) -> tuple[tuple[int, int], ...]:
    out: list[tuple[int, int]] = []
    for step in steps.split(",") if steps != "-" else ():
        number, equals, choice = step.partition("=")
        if not equals or not _is_number(number) or not _is_number(choice):
            raise TokenError(f"a step is NUMBER=CHOICE, not {step!r}: {text!r}")
        if out and int(number) <= out[-1][0] or int(number) >= decisions:
            raise TokenError(f"step {step!r} is out of order or beyond the {decisions} decisions: {text!r}")
        out.append((int(number), int(choice)))
    return tuple(out)
