"""Tags: their rules, and the three operations on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neve.api import requests
from neve.api.address import resource_of
from neve.api.context import Context
from neve.api.limits import Limits
from neve.api.results import Nothing, Tags
from neve.errors import BucketNotFound, IndexNotFound, ResourceNotFound, ValidationFailed

_SYSTEM = "aws:"


def check_new_tags(tags: Mapping[str, str], limits: Limits) -> None:
    """Raises ValidationFailed for keys that belong to the system, then for too many tags."""
    for key in tags:
        if key.startswith(_SYSTEM):
            raise ValidationFailed("System tags cannot be added/updated by requester")
        if key.lower().startswith(_SYSTEM):
            raise ValidationFailed(f'Invalid System Tag: {key} must be prefixed with "aws:" in lowercase.')
    if len(tags) > limits.tags:
        raise ValidationFailed("Too many tags specified")


def list_tags_for_resource(context: Context, request: requests.ListTagsForResource) -> Tags:
    """Raises ResourceNotFound."""
    bucket, index = resource_of(context.identity, request.resource_arn)
    try:
        if index is None:
            return Tags(context.database.bucket(bucket).tags)
        return Tags(context.database.index(bucket, index).read(context.options.consistency).tags)
    except (BucketNotFound, IndexNotFound) as error:
        raise ResourceNotFound(request.resource_arn) from error


def tag_resource(context: Context, request: requests.TagResource) -> Nothing:
    """Raises ResourceNotFound, ValidationFailed."""

    def merged(tags: Mapping[str, str]) -> Mapping[str, str]:
        check_new_tags(request.tags, context.limits)
        together = {**tags, **request.tags}
        check_new_tags(together, context.limits)
        return together

    return _change(context, request.resource_arn, merged)


def untag_resource(context: Context, request: requests.UntagResource) -> Nothing:
    """Unknown keys are ignored; raises ResourceNotFound."""
    gone = frozenset(request.tag_keys)
    return _change(context, request.resource_arn, lambda tags: {key: tags[key] for key in tags if key not in gone})


def _change(context: Context, arn: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Nothing:
    bucket, index = resource_of(context.identity, arn)
    try:
        if index is None:
            context.database.tag_bucket(bucket, change)
        else:
            context.database.index(bucket, index).tag(change, context.options.invocation)
    except (BucketNotFound, IndexNotFound) as error:
        raise ResourceNotFound(arn) from error
    return Nothing()
