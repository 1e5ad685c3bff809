"""Which operation a request is for: by method and path alone; a base path may stand before the route."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from neve.api.service import EXTENSIONS, OPERATIONS
from neve.dataclass import dataclass
from neve.errors import Malformed, OperationUnknown
from neve.wire.message import Request

_TAGS = "/tags/"
_TAG_OPERATIONS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
_BODY_OPERATIONS = frozenset(OPERATIONS) - frozenset(_TAG_OPERATIONS.values())
_EXTENSIONS_FOLDER = "neve"


@dataclass(frozen=True, slots=True)
class Route:
    """An operation, whether its members come as a JSON body, and the members that path and query give.

    `aliases` are other spellings of the path that the client may have signed: a proxy may decode what it sent encoded.
    """

    operation: str
    has_body: bool
    members: Mapping[str, object]
    aliases: tuple[str, ...] = ()


def route_of(request: Request) -> Route:
    """The route of a request; raises OperationUnknown, or Malformed where path or query are not UTF-8."""
    base, _, last = request.path.rpartition("/")
    if last in _BODY_OPERATIONS or (last in EXTENSIONS and base.rpartition("/")[2] == _EXTENSIONS_FOLDER):
        if request.method != "POST":
            raise OperationUnknown(f"{last} is called by POST")
        return Route(last, True, {})
    before, slash, resource = request.path.partition(_TAGS)
    operation = _TAG_OPERATIONS.get(request.method)
    if not slash or operation is None:
        raise OperationUnknown("no operation has that method and path")
    arn = _text(resource)
    members: dict[str, object] = {"resourceArn": arn}
    if operation == "UntagResource":
        tag_keys = _values(request.query, "tagKeys")
        if tag_keys:
            members["tagKeys"] = tag_keys
    return Route(operation, operation == "TagResource", members, (before + _TAGS + quote(arn, safe=""),))


def is_health_check(request: Request) -> bool:
    """Whether this asks if the process is alive; answered without key and without store."""
    return request.method == "GET" and request.path.endswith("/healthz") and _TAGS not in request.path


def is_metrics(request: Request) -> bool:
    """Whether this asks for the metrics of the process; not below a base path, since that leads to other servers."""
    return request.method == "GET" and request.path == "/metrics"


def _values(query: str, name: str) -> list[str]:
    pairs = (part.partition("=") for part in query.split("&"))
    return [_text(value) for key, _, value in pairs if _text(key) == name]


def _text(encoded: str) -> str:
    """Percent-decoded text; raises Malformed where it is not UTF-8."""
    try:
        return unquote_to_bytes(encoded.encode()).decode()
    except UnicodeError:
        raise Malformed("the path or the query is not UTF-8") from None
