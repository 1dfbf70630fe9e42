"""No text makes a parser do anything but answer or refuse: no traceback of another kind, no number that is none.

BAKEOFF_FUZZ=100000 pytest tests/integration/test_fuzz.py tries that many inputs for each parser; without it, a few. The
inputs are drawn from a fixed seed, so that what fails once fails again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import pytest
from bakeoff.core.messages import ChannelError, understand
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, csv_rows, json_document, plain_number
from bakeoff.schema.base import UNPRINTABLE, visible
from bakeoff.schema.sample import parse_line
from bakeoff.supervisor.children import _message
from bakeoff.traces.models import Definition, Solution, Trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("BAKEOFF_FUZZ", "80"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

WORDS = [
    "say",
    "id",
    "token",
    "outcome",
    "reason",
    "detail",
    "tiers",
    "calls",
    "outputs",
    "warnings",
    "digest",
    "key",
    "name",
]
KEYS = st.sampled_from(WORDS) | st.text(max_size=4)
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    st.sampled_from(["ready", "done", "batch"]),
)
LONG = st.sampled_from([b"[" * 5000, b"9" * 400])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)


@st.composite
def spoilt(draw: Any) -> bytes:
    """JSON, or what comes of it when some bytes are changed, cut or doubled."""
    data = bytearray(json.dumps(draw(VALUES)).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"[" * 5000, b"9" * 400])
        )
    return bytes(data)


@fuzz
@given(spoilt() | st.binary(max_size=60))
def test_a_document_is_read_or_refused(data: bytes) -> None:
    try:
        value = json_document(data, "document")
    except InputError as error:
        assert error.where.startswith("document") and error.found and error.hint
    else:
        canonical_json(value)


@fuzz
@given(spoilt())
def test_a_line_of_a_child_or_a_journal_is_understood_or_refused(data: bytes) -> None:
    line = data.replace(b"\n", b" ")
    try:
        message = understand(_message(line))
        assert len(str(message)) < 10_000_000
    except ChannelError:
        pass
    with pytest.raises(InputError):  # no seal of chance fits
        parse_line(line, "journal:1")


@fuzz
@given(VALUES)
def test_a_message_of_any_form_is_understood_or_refused(value: Any) -> None:
    message = value if isinstance(value, dict) else {"say": "done", "id": 1, "token": "t", "outcome": value}
    try:
        assert understand(message)
    except ChannelError as error:
        assert str(error)


@fuzz
@given(st.sampled_from([Definition, Solution, Trace]), spoilt())
def test_a_format_is_read_or_refused(model: Any, data: bytes) -> None:
    from bakeoff.files import parse_json

    try:
        assert parse_json(data, model, "file")
    except InputError as error:
        assert error.where.startswith("file")


@fuzz
@given(st.text(max_size=200))
def test_text_is_a_table_or_refused_a_number_or_refused_and_harmless_once_visible(text: str) -> None:
    try:
        assert isinstance(csv_rows(text, "table"), list)
    except InputError as error:
        assert error.where == "table"
    with contextlib.suppress(ValueError):
        number = plain_number(text)
        assert text.isascii() and number == float(text)
    shown = visible(text)
    assert not UNPRINTABLE.search(shown) and visible(shown) == shown
    shown.encode()
