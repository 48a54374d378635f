"""The headline scenario: what each kernel makes of each step, the same on both architectures and engines."""

import pytest

from emu.scenarios import arena_oob
from emu.scenarios.base import Outcome, ScenarioResult

ALWAYS = {
    "inside": Outcome.OK, "below": Outcome.OOPS, "beyond": Outcome.OOPS, "foreign": Outcome.OOPS,
    "nofault": Outcome.OK, "own_access": Outcome.FIXUP, "destroy": Outcome.OK,
}
KERNEL_TEXT = ("unallocated_read", "unallocated_write", "from_subprog", "upper_guard", "free_scratched")
EXPECTED = {
    "v6.18": {**ALWAYS, **dict.fromkeys(KERNEL_TEXT, Outcome.OOPS), "allocate_scratched": Outcome.OOPS,
              "scratch_for_user": Outcome.OK},
    "commit:dc11a4dba246": {**ALWAYS, **dict.fromkeys(KERNEL_TEXT, Outcome.RECOVERED),
                            "allocate_scratched": Outcome.REFUSED, "scratch_for_user": Outcome.SIGNAL},
    "v7.2": {**ALWAYS, **dict.fromkeys(KERNEL_TEXT, Outcome.RECOVERED), "allocate_scratched": Outcome.RECOVERED,
             "scratch_for_user": Outcome.SIGNAL},
}


def outcomes(result: ScenarioResult) -> dict[str, Outcome]:
    return {row.step: row.outcome for row in result.rows}


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("profile", EXPECTED)
def test_each_kernel_has_its_own_story(arch: str, profile: str) -> None:
    assert outcomes(arena_oob.run(arch, profile)) == EXPECTED[profile]


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_engines_and_runs_agree_to_the_letter(arch: str) -> None:
    """The interpreter's calls lie in the JITed image's frames: stack dumps below kernel text are the same. Its own
    accesses fault without an exception, so there only the reports are."""
    first = arena_oob.run(arch, "v7.2")
    assert arena_oob.run(arch, "v7.2") == first
    interpreted = arena_oob.run(arch, "v7.2", "interp")
    for row, other in zip(first.rows, interpreted.rows, strict=True):
        assert (row.step, row.outcome, row.detail) == (other.step, other.outcome, other.detail)
        if row.outcome is not Outcome.FIXUP:
            assert row.stream == other.stream
        assert [x for x in row.stream.splitlines() if x.startswith("ERROR")] == [
            x for x in other.stream.splitlines() if x.startswith("ERROR")]
