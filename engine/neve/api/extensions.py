"""Operations that only neve has."""

from __future__ import annotations

from collections.abc import Mapping

from neve.api import requests
from neve.api.address import index_of
from neve.api.context import Context
from neve.api.results import IndexSettings
from neve.errors import FieldError, ValidationFailed
from neve.index.consistency import AS_KNOWN
from neve.index.settings import RECALL, SETTINGS, effective
from neve.query.recall import QUERIES, Measured, measure
from neve.query.warm import Warmed, warm

_TOP_K = 10


def configure_index(context: Context, request: requests.ConfigureIndex) -> IndexSettings:
    """Change some settings, null for the default, and answer all; without any only answer them.

    Raises IndexNotFound, OutcomeUnknown, ValidationFailed.
    """
    index = context.database.index(*index_of(context.identity, request))
    if request.settings is None:
        return IndexSettings(effective(index.read(context.options.consistency).settings))
    asked = _checked_settings(request.settings)

    def changed(settings: Mapping[str, float]) -> Mapping[str, float]:
        merged = {**settings, **asked}
        return {name: value for name, value in merged.items() if value is not None}

    index.configure(changed, context.options.invocation)
    return IndexSettings(effective(index.read(AS_KNOWN).settings))


def measure_recall(context: Context, request: requests.MeasureRecall) -> Measured:
    """The recall of searches, held against exhaustive ones. Reads the index whole.

    Raises IndexNotFound, ValidationFailed.
    """
    recall = context.options.recall
    if recall == 1:
        raise _refused("recall", "recall must be less than 1: an exhaustive search finds everything")
    state = context.database.index(*index_of(context.identity, request)).read(context.options.consistency)
    measured = measure(
        context.session,
        state,
        k=request.top_k or _TOP_K,
        recall=RECALL.of(state.settings) if recall is None else recall,
        queries=QUERIES if request.queries is None else request.queries,
        seed=request.seed or 0,
    )
    if measured is None:
        raise ValidationFailed("Recall cannot be measured: the index has fewer than 2 vectors")
    return measured


def warm_index(context: Context, request: requests.WarmIndex) -> Warmed:
    """Load an index into memory and disk, as far as they hold it. Raises IndexNotFound, ValidationFailed."""
    state = context.database.index(*index_of(context.identity, request)).read(context.options.consistency)
    return warm(context.session, state)


def _checked_settings(document: object) -> dict[str, float | None]:
    """The settings to change; raises ValidationFailed."""
    if not isinstance(document, Mapping):
        raise _refused("settings", "settings must be an object")
    for name, value in document.items():
        setting = SETTINGS.get(name)
        if setting is None:
            raise _refused(f"settings.{name}", f"Unknown setting '{str(name)[:64]}': known are {', '.join(SETTINGS)}")
        if value is not None and not setting.allows(value):
            raise _refused(f"settings.{name}", f"{name} must be {setting.range}")
    return {name: None if value is None else float(value) for name, value in document.items()}


def _refused(path: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, FieldError(path, message))
