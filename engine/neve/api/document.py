"""JSON documents as they come in: strict, bounded in depth, and exact where doubles are not."""

from __future__ import annotations

import json

import orjson

from neve.errors import Malformed

_INTEGER_DIGITS_MAX = 309  # of the largest double; a longer integer is none, and parsing its digits costs their square
_EXACT_DIGITS = 18  # every integer of so few digits fits 64 bits
_LONG = b"0" * (_EXACT_DIGITS + 1)
_DIGITS_TO_0 = bytes.maketrans(b"123456789", b"000000000")
_POINT = ord(".")


def parse_json(body: bytes) -> object:
    """The document: objects as dicts (the last of equal keys wins), integers exact, other numbers as doubles.

    Raises Malformed: not JSON (bare NaN, trailing text, lone surrogates, not UTF-8), nested deeper than 1,000 levels
    or so, or with a number beyond the range of doubles. Linear in the body.
    """
    try:
        document: object = orjson.loads(body)
        if not _has_long_integer(body):
            return document
        # orjson makes doubles of integers beyond 64 bits; the slow parser keeps every digit.
        exact: object = json.loads(body, parse_int=_integer)
        return exact
    except (ValueError, OverflowError, RecursionError) as error:
        raise Malformed("The request body is not valid JSON") from error


def dump_json(document: object) -> bytes:
    """Compact UTF-8 JSON of a parsed document; raises Malformed where it is none (NaN, lone surrogates, too deep)."""
    try:
        return json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Malformed("A value is not a JSON document") from error


def _integer(digits: str) -> int:
    """The integer, exactly; ValueError or OverflowError where no double is near it."""
    if len(digits.lstrip("-")) > _INTEGER_DIGITS_MAX:
        raise ValueError("integer beyond the range of doubles")
    number = int(digits)
    float(number)
    return number


def _has_long_integer(body: bytes) -> bool:
    """Whether some number may be an integer of 19 digits or more (digits in strings count: that costs only time)."""
    zeros = body.translate(_DIGITS_TO_0)
    at = zeros.find(_LONG)
    while at > 0 and zeros[at - 1] == _POINT:  # many digits after a point, as most doubles have
        at = zeros.find(_LONG, at + len(_LONG))
    return at >= 0
