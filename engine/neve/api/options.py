"""What a caller may ask beside an operation's own members; HTTP headers and the in-process client spell it alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from neve.errors import FieldError, ValidationFailed
from neve.index.consistency import STRONG, Consistency

_BOUNDED = "bounded;seconds="


@dataclass(frozen=True, slots=True)
class CallOptions:
    """`invocation` is the SDK's id of the call, the same on its repeats. An operation ignores what does not concern it.

    `recall` is what a query is to reach, None for the index's own target; `explain` asks for an account of the call.
    """

    invocation: str | None = None
    consistency: Consistency = STRONG
    recall: float | None = None
    explain: bool = False


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


OPTIONS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {"consistency": parse_consistency, "recall": parse_recall, "explain": parse_explain}
)
"""How the text of each option is read."""


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
