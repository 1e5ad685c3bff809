"""ConfigureIndex: settings are news like any other, checked against one table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neve.api.options import CallOptions
from neve.index.settings import COMPACT, RECALL, SETTINGS, Setting
from neve.store.objects import memory_store
from tests.catalogue.cases import LIBRARY, SHAPE, WORDS
from tests.unit.api_calls import Calls, calls_on

DEFAULTS = {"recall": 0.98, "compact": 1}


@pytest.fixture
def pair() -> Iterator[tuple[Calls, Calls]]:
    """Two processes on one store that has an index."""
    store = memory_store()
    one, other = calls_on(store=store), calls_on(store=store)
    one("CreateVectorBucket", **LIBRARY)
    one("CreateIndex", **WORDS, **SHAPE, tags={"team": "ice"})
    yield one, other
    one.runtime.close()
    other.runtime.close()


def configure(calls: Calls, settings: object = None, options: CallOptions | None = None) -> dict[str, float]:
    found: dict[str, float] = calls("ConfigureIndex", options, **WORDS, settings=settings)["settings"]
    return found


def test_settings_are_seen_by_others_at_once(pair: tuple[Calls, Calls]) -> None:
    one, other = pair
    assert configure(other) == configure(other, {}) == DEFAULTS
    assert configure(one, {"recall": 0.9}) == {"recall": 0.9, "compact": 1}
    assert configure(other) == {"recall": 0.9, "compact": 1}
    assert configure(other, {"compact": 0}) == {"recall": 0.9, "compact": 0}
    assert configure(one, {"recall": None, "compact": 1.0}) == DEFAULTS
    assert configure(other) == DEFAULTS


def test_settings_outlive_a_fold_and_leave_tags_alone(pair: tuple[Calls, Calls]) -> None:
    one, other = pair
    configure(one, {"recall": 0.5})
    one.service.database.index("library", "words").fold()
    assert configure(other) == {"recall": 0.5, "compact": 1}
    arn = one("GetIndex", **WORDS)["index"]["indexArn"]
    assert other("ListTagsForResource", resourceArn=arn) == {"tags": {"team": "ice"}}
    one("TagResource", resourceArn=arn, tags={"colour": "blue"})
    assert configure(other) == {"recall": 0.5, "compact": 1}


def test_a_repeat_of_a_call_changes_nothing_again(pair: tuple[Calls, Calls]) -> None:
    one, other = pair
    call = CallOptions(invocation="i")
    configure(one, {"recall": 0.6}, call)
    configure(other, {"recall": 0.7})
    assert configure(one, {"recall": 0.6}, call) == {"recall": 0.7, "compact": 1}


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ([], "settings", "settings must be an object"),
        ("recall", "settings", "settings must be an object"),
        ({"colour": 1}, "settings.colour", "Unknown setting 'colour': known are recall, compact"),
        ({"recall": 0.4999}, "settings.recall", "recall must be a number from 0.5 to 0.999"),
        ({"recall": 1}, "settings.recall", "recall must be a number from 0.5 to 0.999"),
        ({"recall": "0.9"}, "settings.recall", "recall must be a number from 0.5 to 0.999"),
        ({"recall": 0.9, "compact": 2}, "settings.compact", "compact must be a whole number from 0 to 1"),
        ({"compact": 0.5}, "settings.compact", "compact must be a whole number from 0 to 1"),
        ({"compact": True}, "settings.compact", "compact must be a whole number from 0 to 1"),
    ],
)
def test_what_is_refused(pair: tuple[Calls, Calls], settings: object, path: str, message: str) -> None:
    fault = pair[0].refused("ConfigureIndex", {**WORDS, "settings": settings})
    assert (fault.code, fault.status, fault.message) == ("ValidationException", 400, message)
    assert [(field.path, field.message) for field in fault.fields] == [(path, message)]
    assert configure(pair[1]) == DEFAULTS


def test_an_index_must_be_there(pair: tuple[Calls, Calls]) -> None:
    for settings in (None, {"recall": 0.9}):
        fault = pair[0].refused("ConfigureIndex", {**WORDS, "indexName": "absent", "settings": settings})
        assert (fault.code, fault.message) == ("NotFoundException", "The specified index could not be found")


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_the_table_is_sound(setting: Setting) -> None:
    assert setting in (RECALL, COMPACT)
    assert all(map(setting.allows, (setting.default, setting.low, setting.high)))
    assert not setting.allows(float("nan"))
    assert setting.of({}) == setting.default
    assert setting.of({setting.name: setting.low}) == setting.low
