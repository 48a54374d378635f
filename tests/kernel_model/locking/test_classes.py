"""Lock classes: what reports print of them."""

from __future__ import annotations

from kernel_model.locking.classes import USAGE_NAMES, LockClass, state_name


def lock_class(name="lock", **kw):
    return LockClass(1, name, kw.pop("version", 1), kw.pop("subclass", 0), kw.pop("inner", 4), **kw)


def test_usage_says_how_a_lock_was_taken():
    cls = lock_class("&mm->mmap_lock")
    assert cls.text == "(&mm->mmap_lock){....}-{4:4}"
    cls.usage_mask = 1 << 2 | 1 << 6
    assert cls.usage == "+.+."
    cls.usage_mask |= 1 << 3 | 1 << 7
    assert cls.text == "(&mm->mmap_lock){++++}-{4:4}"
    cls.usage_mask = 1 << 0 | 1 << 2 | 1 << 5
    assert cls.usage == "?..-"


def test_labels():
    assert lock_class("a", version=3, subclass=2).label == "a#3/2"
    assert lock_class("rcu_read_lock_trace", inner=0).text == "(rcu_read_lock_trace){....}-{0:0}"
    assert lock_class("rcu_read_lock", inner=3, wait_type_outer=1).text == "(rcu_read_lock){....}-{1:3}"
    assert lock_class("").label == f"{1:016x}"


def test_names_of_usage_bits():
    assert USAGE_NAMES == ("IN-HARDIRQ-W", "IN-HARDIRQ-R", "HARDIRQ-ON-W", "HARDIRQ-ON-R",
                           "IN-SOFTIRQ-W", "IN-SOFTIRQ-R", "SOFTIRQ-ON-W", "SOFTIRQ-ON-R")  # fmt: skip
    assert [state_name(bit) for bit in (0, 1, 2, 4, 7)] == ["HARDIRQ", "HARDIRQ-READ", "HARDIRQ", "SOFTIRQ",
                                                           "SOFTIRQ-READ"]  # fmt: skip
