"""Every exception of the tree has a code, and nothing of the store's own words leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neve import errors
from neve.api.faults import ERRORS, fault
from neve.errors import FieldError, NeveError, NotAuthentic, ValidationFailed


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


OURS = [kind for kind in _tree(NeveError) if kind.__module__ == errors.__name__ and not kind.__name__.startswith("_")]
SECRET = "s3://user:password@host/key"


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_exception_has_an_answer(kind: type[Exception]) -> None:
    error = kind(SECRET, "said to the client") if kind is NotAuthentic else kind(SECRET)
    answer = fault(error)
    assert 400 <= answer.status < 600
    assert answer.code
    assert answer.message
    if issubclass(kind, errors.StoreError | errors.OutcomeUnknown):
        assert SECRET not in answer.message


def test_the_tree_is_drawn_whole() -> None:
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in OURS if kind.__name__ not in drawn] == []


@pytest.mark.parametrize(
    ("error", "code", "status", "message"),
    [
        (errors.StoreUnavailable("x"), "ServiceUnavailableException", 503, "Currently unable to handle the request"),
        (errors.ObjectCorrupt("x"), "InternalServerException", 500, "Internal server error"),
        (errors.StoreDenied("x"), "AccessDeniedException", 403, "The server is not permitted to use its object store"),
        (KeyError("x"), "InternalServerException", 500, "Internal server error"),
        (RecursionError("x"), "InternalServerException", 500, "Internal server error"),
        (NotAuthentic("InvalidSignatureException", "no"), "InvalidSignatureException", 403, "no"),
        (errors.OperationUnknown("x"), "UnknownOperationException", 404, "The requested operation does not exist"),
        (errors.Malformed("not JSON"), "SerializationException", 400, "not JSON"),
    ],
)
def test_answers(error: Exception, code: str, status: int, message: str) -> None:
    answer = fault(error)
    assert (answer.code, answer.status, answer.message, answer.fields) == (code, status, message, ())


def test_an_unknown_outcome_is_retried_by_clients() -> None:
    assert fault(errors.OutcomeUnknown("x")).status == 500


def test_fields_are_kept() -> None:
    field = FieldError("a", "b")
    assert fault(ValidationFailed("m", field)).fields == (field,)


def test_codes_have_one_status_each() -> None:
    statuses: dict[str, set[int]] = {}
    for answer in ERRORS.values():
        statuses.setdefault(answer.code, set()).add(answer.status)
    assert {code for code, found in statuses.items() if len(found) > 1} == set()
