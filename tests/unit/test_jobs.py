"""Events that ask for upkeep: what they ask for, and which are none."""

from __future__ import annotations

import json

import pytest

from neve.index.paths import hint, named_by_hint
from neve.wire.event import EventInvalid
from neve.wire.jobs import Asked, asked_of
from tests.golden import record_events

EVENTS = json.loads(record_events.FILE.read_text())


@pytest.mark.parametrize(
    ("event", "asked"),
    [
        (EVENTS["schedule"], Asked()),
        (EVENTS["scheduler"], Asked()),
        ({}, Asked()),
        (EVENTS["S3"], Asked([("golden", "books"), ("golden", "films")])),
        (EVENTS["S3, other keys"], Asked([])),
        (EVENTS["S3, test"], Asked([])),
        ({"Records": []}, Asked([])),
        ({"bucket": "b", "index": "i"}, Asked([("b", "i")], directly=True)),
    ],
)
def test_what_is_asked_for(event: object, asked: Asked) -> None:
    assert asked_of(event) == asked


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "schedule",
        {"bucket": "b"},
        {"index": "i"},
        {"bucket": "b", "index": 1},
        {"bucket": "b", "index": "i", "full": True},
        {"Records": None},
        {"Records": [1]},
        {"Records": [{"s3": {"object": {}}}]},
        {"Records": [{"s3": {"object": {"key": 1}}}]},
        {"source": "aws.s3"},
        {"Event": "s3:ObjectCreated:Put"},
    ],
)
def test_what_asks_for_nothing(event: object) -> None:
    with pytest.raises(EventInvalid):
        asked_of(event)


def test_which_keys_name_an_index() -> None:
    assert named_by_hint(hint("b", "i")) == ("b", "i")
    assert named_by_hint("a/prefix/hints/b/i") == ("b", "i")
    for key in ("", "hints", "hints/b", "hints/b/", "hints//i", "hints/b/i/j", "others/b/i", "x-hints/b/i"):
        assert named_by_hint(key) is None
