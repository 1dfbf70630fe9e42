"""No text makes a parser do anything but answer or refuse: no traceback of another kind, no number that is none.

`make fuzz` tries 100,000 inputs for each parser and for the channel; without it (BAKEOFF_FUZZ), a few. The inputs are
drawn from a fixed seed, so that what fails once fails again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
from collections.abc import Iterator
from typing import Any

import pytest
from bakeoff.core.messages import ChannelError, understand
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, csv_rows, json_document, parse_json, plain_number
from bakeoff.processes.children import Child, _message
from bakeoff.schema.base import UNPRINTABLE, visible
from bakeoff.schema.sample import parse_line
from bakeoff.traces.models import Definition, Solution, Trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INPUTS = int(os.environ.get("BAKEOFF_FUZZ", "400"))
EACH = 20 if INPUTS < 10_000 else 100  # inputs made of one drawn value: drawing takes far longer than what is tested
EXAMPLES = max(1, INPUTS // EACH)
pytestmark = pytest.mark.timeout(3600)
MB_MORE = 300  # that the process may grow by in one test; Hypothesis keeps what it has tried
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
PIECES = [
    b"[" * 5000,
    b"9" * 400,
    b"1e999",
    b"NaN",
    b"-0",
    b"\\ud800",
    b"\xff",
    b"\0",
    b'{"say":',
    b'"id"',
    b"\xef\xbb\xbf",
]
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)


@pytest.fixture(autouse=True)
def _does_not_grow() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MB_MORE * 1024


@st.composite
def spoilt(draw: Any) -> list[bytes]:
    """JSON, and what comes of it when some bytes are changed, cut or doubled, in many ways."""
    whole = json.dumps(draw(VALUES)).encode("utf-8", "surrogatepass")
    chance = random.Random(draw(st.integers(0, 2**32)))
    return [whole, *(_spoilt(whole, chance) for _ in range(EACH - 1))]


def _spoilt(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.randint(1, 3)):
        place = chance.randint(0, len(data))
        data[place : place + chance.randint(0, 3)] = chance.choice([chance.randbytes(chance.randint(0, 3)), *PIECES])
    return bytes(data)


@st.composite
def messages(draw: Any) -> list[Any]:
    """Mappings that are nearly messages: of every kind, with drawn values in the places of theirs."""
    values, chance = draw(st.lists(VALUES, min_size=1, max_size=4)), random.Random(draw(st.integers(0, 2**32)))
    kinds = ["ready", "failed", "batch", "done", *values]
    fields = [*WORDS, "missing", "missing_tiers", "spent_s", *(k for v in values if isinstance(v, dict) for k in v)]
    return [
        {"say": chance.choice(kinds), **{name: chance.choice(values) for name in chance.sample(fields, 5)}}
        for _ in range(EACH)
    ]


@fuzz
@given(spoilt())
def test_a_document_is_read_or_refused(texts: list[bytes]) -> None:
    for data in texts:
        try:
            value = json_document(data, "document")
        except InputError as error:
            assert error.where.startswith("document") and error.found and error.hint
        else:
            canonical_json(value)


@fuzz
@given(spoilt())
def test_a_line_of_a_child_or_a_journal_is_understood_or_refused(texts: list[bytes]) -> None:
    for data in texts:
        line = data.replace(b"\n", b" ")
        try:
            message = understand(_message(line))
            assert len(str(message)) < 10_000_000
        except ChannelError:
            pass
        with pytest.raises(InputError):  # no seal of chance fits
            parse_line(line, "journal:1")


@fuzz
@given(spoilt())
def test_any_bytes_on_the_channel_give_messages_or_its_one_error(texts: list[bytes]) -> None:
    """In pieces of any length, as a pipe delivers them."""
    ours, theirs = os.pipe2(os.O_NONBLOCK)
    child = object.__new__(Child)
    child.results, child._buffer = ours, b""
    try:
        for data in [*texts, b'\n{"say": "done"}\n']:
            for start in range(0, len(data), 700):
                os.write(theirs, data[start : start + 700])
                with contextlib.suppress(ChannelError):
                    messages, closed = child.messages()
                    assert not closed and all(isinstance(message, dict) for message in messages)
    finally:
        os.close(ours)
        os.close(theirs)


@fuzz
@given(messages())
def test_a_message_of_any_form_is_understood_or_refused(found: list[Any]) -> None:
    for message in found:
        try:
            assert understand(message)
        except ChannelError as error:
            assert str(error)


@fuzz
@given(spoilt())
def test_a_format_is_read_or_refused(texts: list[bytes]) -> None:
    for data in texts:
        for model in (Definition, Solution, Trace):
            try:
                assert parse_json(data, model, "file")
            except InputError as error:
                assert error.where.startswith("file")


@fuzz
@given(st.lists(st.text(max_size=20), min_size=EACH, max_size=EACH), st.integers(0, 2**32))
def test_text_is_a_table_or_refused_a_number_or_refused_and_harmless_once_visible(parts: list[str], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(EACH):
        text = "".join(chance.sample([*parts, '"', ",", "\n", "1", "e5", "_"], 6))
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
