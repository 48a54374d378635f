"""Replay tokens: what is written is read, and everything else gets one clear error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.explore.token import Token, TokenError, looks_like_token, parse

GOOD = "kemu1/task-vma/x86_64/v7.0/74/12=1,31=0"


def test_a_token_says_everything_a_run_needs():
    assert parse(GOOD) == Token("task-vma", "x86_64", "v7.0", 74, ((12, 1), (31, 0)))
    assert str(parse(GOOD)) == GOOD and looks_like_token(GOOD)


@given(st.dictionaries(st.integers(0, 999), st.integers(0, 9)), st.sampled_from(["v7.0", "series:kf-forbid-fault-v5"]))
def test_what_is_written_is_read(steps, profile):
    token = Token("task-vma", "arm64", profile, 1000, tuple(sorted(steps.items())))
    assert parse(str(token)) == token


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("deadlock/", "not a replay token"),
        ("kemu2" + GOOD[5:], "a token of another version: 'kemu2'"),
        (GOOD + "/7", "a token has 6 parts"),
        (GOOD.replace("74", "many"), "the number of decisions is 'many'"),
        (GOOD.replace("12=1", "12"), "a step is NUMBER=CHOICE, not '12'"),
        (GOOD.replace("12=1", "x=1"), "a step is NUMBER=CHOICE"),
        (GOOD.replace("12=1", "12=-1"), "a step is NUMBER=CHOICE"),
        (GOOD.replace("12=1", "40=1"), "'31=0' is out of order"),
        (GOOD.replace("31=0", "74=0"), "beyond the 74 decisions"),
        (GOOD.replace("12=1", "\N{SUPERSCRIPT TWO}=1"), "a step is NUMBER=CHOICE"),
    ],
)
def test_bad_tokens(text, error):
    with pytest.raises(TokenError, match=error):
        parse(text)


def test_a_token_fits_one_scenario_architecture_and_kernel():
    token = parse(GOOD)
    token.check("task-vma", "x86_64", "v7.0")
    for place in (("other", "x86_64", "v7.0"), ("task-vma", "arm64", "v7.0"), ("task-vma", "x86_64", "v7.1")):
        with pytest.raises(TokenError, match="the token is for"):
            token.check(*place)
