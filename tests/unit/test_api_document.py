"""JSON as it comes in: exact numbers, strictness, and no input that costs more than its length."""

from __future__ import annotations

import json
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.api.document import dump_json, parse_json
from neve.errors import Malformed

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_documents_come_back_exactly(value: object) -> None:
    for body in (json.dumps(value).encode(), dump_json(value)):
        found = parse_json(body)
        assert found == value
        assert repr(found) == repr(value)  # 1 stays an int, 1.0 a float


@given(st.binary(max_size=40) | st.text('[]{}":,0123456789eE+-.\\utrnNaI ', max_size=40).map(str.encode))
def test_any_bytes_are_a_document_or_malformed(body: bytes) -> None:
    try:
        found = parse_json(body)
    except Malformed:
        return
    assert found == json.loads(body)


@pytest.mark.parametrize(
    "number", [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**18, 10**19, 10**308, -(10**300) - 1]
)
def test_integers_are_exact(number: int) -> None:
    body = f'{{"a": [0.1, {number}], "b":"x"}}'.encode()
    assert parse_json(body) == {"a": [0.1, number], "b": "x"}
    assert parse_json(str(number).encode()) == number


def test_digits_after_a_point_are_no_long_integer() -> None:
    assert parse_json(b"[0.12345678901234567890123]") == [0.12345678901234568]


@pytest.mark.parametrize(
    "body",
    [b"1" * 100_000, b"1" * 10_000_000, b"[" + b"9" * 400 + b"]", b"1e400", b"-1e400", b"1" + b"0" * 309],
    ids=["100k-digits", "10M-digits", "400-digits", "1e400", "-1e400", "1e309"],
)
def test_numbers_beyond_doubles_are_malformed_quickly(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(Malformed):
        parse_json(body)
    assert time.process_time() - started < 1


def test_nesting_without_end_is_malformed() -> None:
    for body in (b"[" * 10**6, b"[" * 10**6 + b"]" * 10**6, b'{"a":' * 10**5 + b"1" + b"}" * 10**5):
        with pytest.raises(Malformed):
            parse_json(body)
    with pytest.raises(Malformed):  # deep enough for one parser, not for the other
        parse_json(b"[" * 1020 + b"1" * 30 + b"]" * 1020)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1, 2}, [object()]])
def test_what_json_cannot_hold_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        dump_json(value)


def test_parsing_a_large_put_stays_close_to_the_bare_parser() -> None:
    body = orjson.dumps([[number / 7 for number in range(1024)]] * 500)
    bare, ours = min(_seconds(orjson.loads, body) for _ in range(3)), min(_seconds(parse_json, body) for _ in range(3))
    assert ours < 3 * bare + 0.05


def _seconds(parse: object, body: bytes) -> float:
    started = time.process_time()
    parse(body)
    return time.process_time() - started
