"""AWS Signature Version 4, both sides: `Verifier` checks requests, `sign` and `presign` make them.

The signature always covers the body: its hash is computed here, a client's `x-amz-content-sha256` must agree with it,
and neither UNSIGNED-PAYLOAD nor the STREAMING-… forms are taken. Whatever headers the client chose to sign are used as
given, except that `host` must be among them; its value may be any name, since clients come through proxies.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from neve.dataclass import dataclass
from neve.errors import NotAuthentic
from neve.wire.message import Request

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3vectors"
SKEW_S = 5 * 60  # AWS: a signature is good for five minutes around its date
EXPIRES_MAX_S = 7 * 24 * 3600  # AWS: the longest life of a presigned request

_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_SHAPE = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_SIGNED_SHAPE = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(;[a-z0-9!#$%&'*+.^_`|~-]+)*", re.ASCII)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
# Headers that the HTTP stack between signer and server may change; botocore leaves them unsigned, too.
_UNSIGNED = frozenset(
    {
        "authorization",
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A pair that may sign requests; `name` says whose it is. The secret stays out of the repr."""

    id: str
    secret: str = field(repr=False)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signing key is good for: one day, one region, one service."""

    day: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says about its own signature; `expires_s` is None in the header form."""

    key_id: str
    scope: Scope
    stamp: str
    signed: tuple[str, ...]
    signature: str
    query: str
    expires_s: int | None


class Verifier:
    """Checks signatures against the keys it was given; thread-safe."""

    def __init__(
        self,
        keys: Iterable[AccessKey],
        wall_s: Callable[[], float],
        regions: Iterable[str] = (),
        service: str = SERVICE,
    ) -> None:
        """`wall_s` reads the clock; `regions` are those a signature may name, all if empty."""
        self._keys = {key.id: key for key in keys}
        self._wall_s = wall_s
        self._regions = frozenset(regions)
        self._service = service

    def verify(self, request: Request, aliases: Sequence[str] = ()) -> AccessKey:
        """The key that signed this request, over its path or over one of `aliases`, other spellings of that path.

        Raises NotAuthentic. Costs one SHA-256 of the body.
        """
        claim = _claim(request)
        key = self._keys.get(claim.key_id)
        if key is None:
            raise NotAuthentic("UnrecognizedClientException", "The security token included in the request is invalid.")
        self._check_scope(claim)
        self._check_time(claim)
        body_hash = _body_hash(request)
        for path in dict.fromkeys((_normalised(request.path), request.path, *aliases)):
            text = _canonical(request.method, path, claim.query, request.headers, claim.signed, body_hash)
            expected = _signature(key.secret, claim.scope, claim.stamp, text)
            if hmac.compare_digest(expected.encode(), _octets(claim.signature)):
                return key
        raise _invalid(_MISMATCH)

    def _check_scope(self, claim: _Claim) -> None:
        if claim.scope.service != self._service:
            raise _invalid(f"Credential should be scoped to correct service: '{self._service}'.")
        if self._regions and claim.scope.region not in self._regions:
            raise _invalid(f"Credential should be scoped to a valid region: {', '.join(sorted(self._regions))}.")
        if claim.scope.day != claim.stamp[:8]:
            raise _invalid(
                f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{claim.scope.day}' != '{claim.stamp[:8]}', from '{claim.stamp}'."
            )

    def _check_time(self, claim: _Claim) -> None:
        now_s, signed_s = self._wall_s(), _seconds(claim.stamp)
        if signed_s > now_s + SKEW_S:
            limit = f"{stamp_of(now_s + SKEW_S)} ({stamp_of(now_s)} + 5 min.)"
            raise _invalid(f"Signature not yet current: {claim.stamp} is still later than {limit}")
        if claim.expires_s is None and signed_s < now_s - SKEW_S:
            limit = f"{stamp_of(now_s - SKEW_S)} ({stamp_of(now_s)} - 5 min.)"
            raise _invalid(f"Signature expired: {claim.stamp} is now earlier than {limit}")
        if claim.expires_s is not None and signed_s + claim.expires_s < now_s:
            limit = f"{stamp_of(now_s)} (X-Amz-Expires={claim.expires_s})"
            raise _invalid(f"Signature expired: {stamp_of(signed_s + claim.expires_s)} is now earlier than {limit}")


def sign(
    request: Request, key: AccessKey, region: str, now_s: float, *, service: str = SERVICE, token: str | None = None
) -> Request:
    """The request with `x-amz-date` and `authorization` added, and `x-amz-security-token` if `token` is given.

    The request must carry its `host`. Signs every header but those a proxy may change.
    """
    stamp = stamp_of(now_s)
    headers = {name: value for name, value in request.headers.items() if name != "authorization"}
    headers["x-amz-date"] = stamp
    if token is not None:
        headers["x-amz-security-token"] = token
    scope, signed = Scope(stamp[:8], region, service), _signable(headers)
    body_hash = headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    query = _canonical_query(_pairs(request.query))
    text = _canonical(request.method, _normalised(request.path), query, headers, signed, body_hash)
    headers["authorization"] = (
        f"{ALGORITHM} Credential={key.id}/{scope}, SignedHeaders={';'.join(signed)}, "
        f"Signature={_signature(key.secret, scope, stamp, text)}"
    )
    return replace(request, headers=headers)


def presign(
    request: Request,
    key: AccessKey,
    region: str,
    now_s: float,
    *,
    expires_s: int = 3600,
    service: str = SERVICE,
    token: str | None = None,
) -> Request:
    """The request with the signature in its query, good for `expires_s` from now; it covers headers and body too."""
    stamp, signed = stamp_of(now_s), _signable(request.headers)
    scope = Scope(stamp[:8], region, service)
    added = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{key.id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": ";".join(signed),
    }
    if token is not None:
        added["X-Amz-Security-Token"] = token
    query = "&".join(filter(None, (request.query, *(f"{name}={_encoded(value)}" for name, value in added.items()))))
    body_hash = request.headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    canonical_query = _canonical_query(_pairs(query))
    text = _canonical(request.method, _normalised(request.path), canonical_query, request.headers, signed, body_hash)
    return replace(request, query=f"{query}&X-Amz-Signature={_signature(key.secret, scope, stamp, text)}")


def stamp_of(wall_s: float) -> str:
    """A time as `x-amz-date` writes it."""
    return datetime.fromtimestamp(int(wall_s), UTC).strftime(_STAMP)


def _claim(request: Request) -> _Claim:
    pairs = _pairs(request.query)
    names = {name for name, _ in pairs}
    authorization = request.headers.get("authorization")
    presigned = b"X-Amz-Algorithm" in names or b"X-Amz-Signature" in names
    if authorization is None and not presigned:
        raise NotAuthentic("MissingAuthenticationTokenException", "Missing Authentication Token")
    if authorization is not None and presigned:
        raise _invalid("Only one form of signature is allowed: the Authorization header or the query.")
    return _query_claim(pairs) if authorization is None else _header_claim(request, authorization, pairs)


def _header_claim(request: Request, authorization: str, pairs: list[tuple[bytes, bytes]]) -> _Claim:
    algorithm, _, rest = authorization.strip().partition(" ")
    _check_algorithm(algorithm)
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        if name in fields:
            raise _invalid(f"Authorization header names '{name}' more than once.")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise _invalid(f"Authorization header requires '{name}' parameter.")
    stamp = request.headers.get("x-amz-date", "")
    key_id, scope = _credential(fields["Credential"])
    return _Claim(
        key_id=key_id,
        scope=scope,
        stamp=_checked_stamp(stamp),
        signed=_signed_names(fields["SignedHeaders"]),
        signature=fields["Signature"],
        query=_canonical_query(pairs),
        expires_s=None,
    )


def _query_claim(pairs: list[tuple[bytes, bytes]]) -> _Claim:
    fields: dict[str, str] = {}
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        values = [value for key, value in pairs if key == b"X-Amz-" + name.encode()]
        if len(values) != 1 or not values[0]:
            raise _invalid(f"AWS query-string parameters must include 'X-Amz-{name}' once.")
        fields[name] = values[0].decode("latin-1")
    _check_algorithm(fields["Algorithm"])
    expires = fields["Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires, re.ASCII) or not 1 <= int(expires) <= EXPIRES_MAX_S:
        raise _invalid(f"X-Amz-Expires must be between 1 and {EXPIRES_MAX_S} seconds.")
    key_id, scope = _credential(fields["Credential"])
    return _Claim(
        key_id=key_id,
        scope=scope,
        stamp=_checked_stamp(fields["Date"]),
        signed=_signed_names(fields["SignedHeaders"]),
        signature=fields["Signature"],
        query=_canonical_query([pair for pair in pairs if pair[0] != b"X-Amz-Signature"]),
        expires_s=int(expires),
    )


def _check_algorithm(algorithm: str) -> None:
    if algorithm != ALGORITHM:
        raise _invalid(f"Unsupported signing algorithm: this server verifies {ALGORITHM}.")


def _credential(text: str) -> tuple[str, Scope]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise _invalid("Credential must be {key id}/{yyyymmdd}/{region}/{service}/aws4_request.")
    return parts[0], Scope(parts[1], parts[2], parts[3])


def _checked_stamp(stamp: str) -> str:
    try:
        _seconds(stamp)
    except ValueError:
        raise _invalid("X-Amz-Date must be given as yyyymmddThhmmssZ.") from None
    return stamp


def _seconds(stamp: str) -> float:
    shape = _STAMP_SHAPE.fullmatch(stamp)
    if shape is None:
        raise ValueError(stamp)
    year, month, day, hour, minute, second = map(int, shape.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _signed_names(text: str) -> tuple[str, ...]:
    if not _SIGNED_SHAPE.fullmatch(text):
        raise _invalid("SignedHeaders must be lower-case header names, separated by semicolons.")
    names = tuple(text.split(";"))
    if "host" not in names:
        raise _invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return names


def _body_hash(request: Request) -> str:
    actual = hashlib.sha256(request.body).hexdigest()
    declared = request.headers.get("x-amz-content-sha256", actual)
    if declared.startswith("STREAMING-") or declared == "UNSIGNED-PAYLOAD":
        raise _invalid(f"x-amz-content-sha256 '{declared}' is not supported: the signature must cover the whole body.")
    if declared.lower() != actual:
        raise _invalid(_MISMATCH)
    return declared


def _canonical(
    method: str, path: str, query: str, headers: Mapping[str, str], signed: Sequence[str], body_hash: str
) -> str:
    """The canonical request; `path` as on the wire, and so encoded once more here, as for every service but S3."""
    lines = [method.upper(), quote(_octets(path), safe="/~"), query]
    lines += [f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed]
    lines += ["", ";".join(signed), body_hash]
    return "\n".join(lines)


def _signature(secret: str, scope: Scope, stamp: str, canonical: str) -> str:
    digest = hashlib.sha256(_octets(canonical)).hexdigest()
    key = _signing_key(secret, scope)
    return _hmac(key, f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()


@lru_cache(maxsize=256)
def _signing_key(secret: str, scope: Scope) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (scope.day, scope.region, scope.service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, _octets(text), "sha256")


def _signable(headers: Mapping[str, str]) -> tuple[str, ...]:
    if "host" not in headers:
        raise ValueError("a request must carry its host header to be signed")
    return tuple(sorted(name for name in headers if name not in _UNSIGNED))


def _normalised(path: str) -> str:
    """The path without empty and dot segments, as the SDKs sign it."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _pairs(query: str) -> list[tuple[bytes, bytes]]:
    """Names and values of a query, percent-decoded; a plus sign stands for itself."""
    if not query:
        return []
    split = (part.partition("=") for part in query.split("&"))
    return [(unquote_to_bytes(_octets(name)), unquote_to_bytes(_octets(value))) for name, _, value in split]


def _canonical_query(pairs: Iterable[tuple[bytes, bytes]]) -> str:
    encoded = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encoded(value: str | bytes) -> str:
    return quote(value, safe="-_.~")


def _octets(text: str) -> bytes:
    """The bytes of a text off the wire, where a server decodes each byte as one character; total over all strings."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _invalid(message: str) -> NotAuthentic:
    return NotAuthentic("InvalidSignatureException", message)
