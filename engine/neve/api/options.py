"""What a caller may ask beside an operation's own members; HTTP headers and the in-process client spell it alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from neve.api.document import parse_json
from neve.dataclass import dataclass
from neve.errors import FieldError, Malformed, ValidationFailed
from neve.index.consistency import STRONG, Consistency

PREFIX_BYTES_MAX = 1024
"""As long as a key may be."""

_BOUNDED = "bounded;seconds="
_ESCAPED = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """`invocation` is the SDK's id of the call, the same on its repeats. An operation ignores what does not concern it.

    `recall` is what a query is to reach, None for the index's own target; `explain` asks for an account of the call.
    Those of PARTICULAR are refused where they do not concern an operation: they change what is meant.
    """

    invocation: str | None = None
    consistency: Consistency = STRONG
    recall: float | None = None
    explain: bool = False
    filter: object = None
    prefix: str = ""
    distance: float | None = None

    def check(self, operation: str) -> None:
        """Raises ValidationFailed for an option that means nothing to an operation."""
        for name, meant in PARTICULAR.items():
            if operation != meant and getattr(self, name) not in (None, ""):
                raise _refused(name, f"{name} is an option of {meant} only")


def parse_consistency(text: str) -> Consistency:
    """`strong`, or `bounded;seconds=N` with a finite N >= 0; raises ValidationFailed."""
    words = "".join(text.split()).lower()
    if words == "strong":
        return STRONG
    if words.startswith(_BOUNDED):
        seconds = _number(words.removeprefix(_BOUNDED))
        if math.isfinite(seconds) and seconds >= 0:
            return Consistency(seconds)
    raise _refused("consistency", "consistency must be 'strong' or 'bounded;seconds=N'")


def parse_recall(text: str) -> float:
    """A share of the true neighbours, 1 for all of them; raises ValidationFailed."""
    recall = _number(text)
    if 0 < recall <= 1:
        return recall
    raise _refused("recall", "recall must be a number greater than 0 and at most 1")


def parse_explain(text: str) -> bool:
    """`true` or `false`; raises ValidationFailed."""
    words = text.strip().lower()
    if words in ("true", "false"):
        return words == "true"
    raise _refused("explain", "explain must be 'true' or 'false'")


def parse_filter(text: str) -> object:
    """A JSON document in ASCII, as a header can carry; whether it is a filter is not looked at, but that it is there.

    Raises ValidationFailed.
    """
    try:
        document = parse_json(text.encode("ascii"))
    except (Malformed, UnicodeEncodeError):
        raise _refused("filter", "filter must be JSON in ASCII, any other character written as \\uXXXX") from None
    if document is None:
        raise _refused("filter", "Invalid filter")
    return document


def parse_prefix(text: str) -> str:
    """The beginning of a key, percent-encoded UTF-8; raises ValidationFailed."""
    with suppress(UnicodeDecodeError):
        if _ESCAPED.fullmatch(text) and len(raw := unquote_to_bytes(text)) <= PREFIX_BYTES_MAX:
            return raw.decode()
    raise _refused("prefix", f"prefix must be 1 to {PREFIX_BYTES_MAX} bytes of UTF-8, percent-encoded")


def parse_distance(text: str) -> float:
    """A finite number that is not negative; raises ValidationFailed."""
    distance = _number(text)
    if math.isfinite(distance) and distance >= 0:
        return distance
    raise _refused("distance", "distance must be a finite number of at least 0")


OPTIONS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "consistency": parse_consistency,
        "recall": parse_recall,
        "explain": parse_explain,
        "filter": parse_filter,
        "prefix": parse_prefix,
        "distance": parse_distance,
    }
)
"""How the text of each option is read."""

PARTICULAR: Mapping[str, str] = MappingProxyType(
    {"filter": "ListVectors", "prefix": "ListVectors", "distance": "QueryVectors"}
)
"""Options that change what one operation means: any other refuses them."""


def call_options(texts: Mapping[str, str], invocation: str | None = None) -> CallOptions:
    """The options that some texts by name of OPTIONS ask for; raises ValidationFailed."""
    asked = {name: OPTIONS[name](text) for name, text in texts.items()}
    return CallOptions(invocation, **asked)  # type: ignore[arg-type]  # each parser gives its field's type


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refused(option: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, FieldError(option, message))
