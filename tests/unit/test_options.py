"""What a caller may ask beside an operation's own members."""

from __future__ import annotations

import pytest

from neve.api.options import OPTIONS, CallOptions, call_options
from neve.errors import ValidationFailed
from neve.index.consistency import Consistency


def test_nothing_asked_is_the_default() -> None:
    assert call_options({}) == CallOptions()
    assert call_options({}, "i") == CallOptions(invocation="i")


def test_each_option_has_its_text() -> None:
    asked = {"consistency": " Bounded; seconds=2.5", "recall": "0.75", "explain": " TRUE "}
    more = {"filter": '{"a": "\\u00e9"}', "prefix": "a%2F", "distance": "1e-3"}
    assert {*asked, *more} == set(OPTIONS)
    assert call_options(asked | more) == CallOptions(None, Consistency(2.5), 0.75, True, {"a": "é"}, "a/", 0.001)


@pytest.mark.parametrize(
    ("option", "texts", "message"),
    [
        ("consistency", ["bounded;seconds=inf", "5"], "consistency must be 'strong' or 'bounded;seconds=N'"),
        ("recall", ["0", "1.5", "-1", "nan", "x"], "recall must be a number greater than 0 and at most 1"),
        ("explain", ["1", "on"], "explain must be 'true' or 'false'"),
    ],
)
def test_what_is_refused(option: str, texts: list[str], message: str) -> None:
    for text in texts:
        with pytest.raises(ValidationFailed) as caught:
            call_options({option: text})
        assert caught.value.message == message
        assert [(field.path, field.message) for field in caught.value.fields] == [(option, message)]
