"""The language of claims, and what printed figures allow."""

from __future__ import annotations

import numpy as np
import pytest
from bakeoff.stats.expressions import ExpressionError, PublishedTable, Scope, evaluate
from bakeoff.stats.printed import parse

TABLE = PublishedTable(
    columns={
        "a": np.array([1.0, 4.0, 3.0, np.nan]),
        "b": np.array([2.0, 2.0, 2.0, 2.0]),
        "seq_len": np.array([1.0, 8.0, 64.0, 512.0]),
        "offset": np.array([0.0, 32.0, 64.0, 96.0]),
    },
    labels={"a": "the_a", "b": "the_b"},
)


def value(expression: str, taken: int = 1):
    return evaluate(expression, Scope(TABLE, {"other": TABLE}, taken))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("-(1 - 3)", 2.0),
        ("mean(b)", 2.0),
        ("mean(a)", 8 / 3),
        ("median(a)", 3.0),
        ("min(a)", 1.0),
        ("max(a)", 4.0),
        ("count(seq_len)", 4.0),
        ("count(a)", 3.0),
        ("count(a > b)", 2.0),
        ("at(a, 8)", 4.0),
        ("row(64)", [64.0, 3.0, 2.0]),
        ("winner(8)", "the_a"),
        ("winner(1)", "the_b"),
        ("winner(512)", "the_b"),
        ("wins(a)", 2.0),
        ("all(b == 2)", True),
        ("any(a > 3.5)", True),
        ("all(a > 0)", False),
        ("b[seq_len >= 64]", [2.0, 2.0]),
        ("max(a[seq_len < 64])", 4.0),
        ("other.a[other.seq_len == 8] - 1", [3.0]),
        ("[1, mean(b)]", [1.0, 2.0]),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("not 1 > 2", True),
        ("1 > 2 or 2 > 1", True),
        ("2 > 1 and 1 > 2", False),
        ("geometric_mean(b)", 2.0),
    ],
)
def test_values(expression, expected):
    assert value(expression) == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_deviations_follow_the_reading():
    assert value("std(a)", 1) == pytest.approx(np.std([1, 4, 3], ddof=1))
    assert value("std(a)", 0) == pytest.approx(np.std([1, 4, 3]))
    assert value("cv(a)", 0) == pytest.approx(np.std([1, 4, 3]) / np.mean([1, 4, 3]))


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "().__class__",
        "a.__class__",
        "open('x')",
        "lambda: 1",
        "[x for x in a]",
        "'text'",
        "True",
        "a[0]",
        "a[1:2]",
        "{}",
        "(1, 2)",
        "f'{a}'",
        "2 ** 9",
        "9 % 2",
        "a @ b",
        "1 if a else 2",
        "a := 1",
        "mean(column=a)",
        "unknown",
        "other.unknown",
        "missing.a",
        "mean()",
        "at(a, 512)",
        "at(a, 7)",
        "wins(3)",
        "wins(nobody)",
        "wins(seq_len)",
        "1 / 0",
        "mean(a[seq_len > 1000])",
        "a > 1 and b > 1",
        "1 < a < 2",
        "a is b",
        "1 in a",
        "",
        "1 +",
        "max",
        "1e999",
        "~1",
        "[1, 2][0]",
        "a[b == 2][seq_len > 1]",
        "1" + " + 1" * 200,
        "-" * 399 + "a",
        "0 - a[seq_len == 512]",
    ],
)
def test_anything_else_is_refused_with_an_expression_error(expression):
    with pytest.raises(ExpressionError):
        value(expression)


@pytest.mark.parametrize(
    ("printed", "inside", "outside"),
    [
        ("31.21x", [31.205, 31.215, 31.21], [31.2049, 31.2151]),
        ("~6.3x", [6.2, 6.4], [6.199, 6.401]),
        ("30x", [29.5, 30.5], [29.49, 30.51]),
        ("20.8%", [0.2075, 0.2085], [0.2074, 0.2086]),
        ("+7.1%", [0.0705, 0.0715], [0.0704, 0.0716]),
        ("-1.5", [-1.55, -1.45], [-1.56, 1.5]),
        ("~96K", [95000, 97000], [94999, 97001]),
        ("10-15x", [9.5, 12, 15.5], [9.49, 15.51]),
        ("~2.5-3x", [2.4, 3.1], [2.39, 3.11]),
        ("10–15x", [9.5, 15.5], [9.4, 15.6]),
        ("10–15×", [9.5, 15.5], [9.49, 15.51]),
        ("~2.5×", [2.4, 2.6], [2.39, 2.61]),
        ("−1.5%", [-0.0155, -0.0145], [-0.0156, 0.015]),
        ("13/19", [13], [12.9, 13.1, 14]),
        ("0", [0.5, -0.5], [0.51]),
    ],
)
def test_a_printed_figure_sets_its_own_tolerance(printed, inside, outside):
    form = parse(printed)
    assert all(form.allows(found) for found in inside)
    assert not any(form.allows(found) for found in outside)


@pytest.mark.parametrize("text", ["triton_v2", "x", "~", "1.2.3", "12 x", "1-", "", "12xx", "v3.2"])
def test_words_are_not_figures(text):
    assert parse(text) is None


@pytest.mark.parametrize(("seq_len", "times"), [(9, "0 times"), (8, "2 times")])
def test_a_row_that_is_not_one_is_refused(seq_len, times):
    twice = PublishedTable({**TABLE.columns, "seq_len": np.array([1.0, 8.0, 8.0, 512.0])}, TABLE.labels)
    with pytest.raises(ExpressionError, match=f"seq_len {seq_len} stands {times}"):
        evaluate(f"at(a, {seq_len})", Scope(twice, {}, 1))
