"""kcalls: found by kernel name, decoded by the C prototype, bound or listed as missing."""

import pytest

from kernel_model.errors import KemuError, MissingSymbolsError
from kernel_model.kcall import bind, collect, kcall


class Subsystem:
    def __init__(self):
        self.seen = None

    @kcall
    def take(self, *args):
        """Remember what came."""
        self.seen = args
        return -14

    @kcall
    def __hidden(self, a):
        return a + 1

    @kcall
    def yes(self):
        """True."""
        return True

    @kcall
    def sleeps_not(self, a):
        """May sleep, does not."""
        if a > 10:
            yield "a wait queue"
        return a * 2

    def not_a_kcall(self):
        """Nothing the guest may call."""


REGISTERS = (0xFFFFFFFFFFFFFFFF, 0x1_80000000, 0xABCD_FFFF, 0x1FF, 0x100, 0x8000000000000000)


@pytest.mark.parametrize(
    "signature, decoded",
    [
        ("vpppppp", REGISTERS),
        ("ilihbcl", (-1, -(1 << 31), 0xFFFF, True, 0, -(1 << 63))),
        ("vuu", (0xFFFFFFFF, 0x80000000)),
        ("vsa", (-1, 0)),
    ],
)
def test_arguments_arrive_as_the_prototype_says(signature, decoded):
    subsystem = Subsystem()
    (call,) = bind([("take", signature)], collect([subsystem]))
    assert call(*REGISTERS) == (-14) & 0xFFFF_FFFF_FFFF_FFFF
    assert subsystem.seen == decoded


def test_names_are_the_kernels_even_with_leading_underscores():
    found = collect([Subsystem()])
    assert set(found) == {"take", "__hidden", "yes", "sleeps_not"}
    calls = bind([("__hidden", "ii"), ("yes", "b")], found)
    assert [call(*REGISTERS) for call in calls] == [0, 1]


def test_missing_functions_are_listed():
    with pytest.raises(MissingSymbolsError, match="nobody_1, nobody_2"):
        bind([("nobody_1", "v"), ("take", "v"), ("nobody_2", "v")], collect([Subsystem()]))


def test_two_implementations_of_one_function_are_an_error():
    with pytest.raises(KemuError, match="implemented twice"):
        collect([Subsystem(), Subsystem()])


def test_a_call_that_may_sleep_is_handed_out_as_its_generator():
    (call,) = bind([("sleeps_not", "ii")], collect([Subsystem()]))
    with pytest.raises(StopIteration) as done:
        next(call(4, 0, 0, 0, 0, 0))
    assert done.value.value == 8
    assert next(call(11, 0, 0, 0, 0, 0)) == "a wait queue"
