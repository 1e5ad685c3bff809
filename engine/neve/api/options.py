"""What a caller may ask beside an operation's own members; HTTP headers and the in-process client spell it alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neve.errors import FieldError, ValidationFailed
from neve.index.consistency import STRONG, Consistency

_BOUNDED = "bounded;seconds="


@dataclass(frozen=True, slots=True)
class CallOptions:
    """`invocation` is the SDK's id of the call, the same on its repeats."""

    invocation: str | None = None
    consistency: Consistency = STRONG


def parse_consistency(text: str) -> Consistency:
    """`strong`, or `bounded;seconds=N` with a finite N >= 0; raises ValidationFailed."""
    words = "".join(text.split()).lower()
    if words == "strong":
        return STRONG
    if words.startswith(_BOUNDED):
        try:
            seconds = float(words.removeprefix(_BOUNDED))
        except ValueError:
            seconds = math.nan
        if math.isfinite(seconds) and seconds >= 0:
            return Consistency(seconds)
    message = "consistency must be 'strong' or 'bounded;seconds=N'"
    raise ValidationFailed(message, FieldError("consistency", message))
