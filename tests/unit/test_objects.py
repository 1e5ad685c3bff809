"""What is said of errors of a remote store."""

from __future__ import annotations

from obstore.exceptions import GenericError, PermissionDeniedError

from neve.errors import StoreDenied, StoreUnavailable
from neve.store.objects import _store_error
from neve.store.port import Get


def test_missing_credentials_are_named() -> None:
    error = _store_error(Get("a/b"), GenericError("Error performing PUT http://169.254.169.254/latest/api/token: 403"))
    assert isinstance(error, StoreDenied)
    assert "set AWS_ACCESS_KEY_ID" in str(error)


def test_refused_credentials_name_the_object() -> None:
    error = _store_error(Get("a/b"), PermissionDeniedError("<Error>secret details</Error>"))
    assert isinstance(error, StoreDenied)
    assert str(error) == "the store refuses Get of a/b: check its credentials and permissions"


def test_other_errors_keep_their_first_line() -> None:
    error = _store_error(Get("a/b"), GenericError("connection reset\n\nDebug source: …"))
    assert isinstance(error, StoreUnavailable)
    assert str(error) == "Get of a/b failed: connection reset"
