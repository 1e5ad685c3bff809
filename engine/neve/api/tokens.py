"""Page tokens: opaque, signed with the store's identity, valid only for the request that they continue.

A token is base64url of (BLAKE2b-128, keyed, of everything below) + payload; what it belongs to (the operation, the
index, the parameters that must not change between pages) is hashed but not carried.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence

from neve.dataclass import dataclass
from neve.errors import PageTokenInvalid
from neve.query.listing import Cursor

_DIGEST_BYTES = 16
_SEARCH = struct.Struct(">qqQdI")  # manifest, position, arrangement, issued, offset; the uid follows


@dataclass(frozen=True, slots=True)
class Position:
    """Where a query's next page begins: the state searched, the time of the first page, the hits given so far."""

    uid: str
    manifest: int
    position: int
    arrangement: int
    issued_s: float
    offset: int


class Tokens:
    """Makes and reads the tokens of one store."""

    def __init__(self, identity: str) -> None:
        self._key = hashlib.blake2b(identity.encode(), digest_size=32).digest()

    def of_name(self, name: str, *belonging: object) -> str:
        """The token of a listing of names, up to and including `name`."""
        return self._seal(name.encode(), belonging)

    def name(self, token: str, *belonging: object) -> str:
        """The name to go on after; raises PageTokenInvalid."""
        return self._unseal(token, belonging).decode()

    def of_cursor(self, cursor: Cursor, *belonging: object) -> str:
        """The token of a listing of vectors, up to and including the cursor."""
        return self._seal(cursor.hash.to_bytes(8, "big") + cursor.key.encode(), belonging)

    def cursor(self, token: str, *belonging: object) -> Cursor:
        """The cursor to go on after; raises PageTokenInvalid."""
        payload = self._unseal(token, belonging)
        return Cursor(int.from_bytes(payload[:8], "big"), payload[8:].decode())

    def of_position(self, position: Position, *belonging: object) -> str:
        """The token of a query's next page."""
        numbers = _SEARCH.pack(
            position.manifest, position.position, position.arrangement, position.issued_s, position.offset
        )
        return self._seal(numbers + position.uid.encode(), belonging)

    def position(self, token: str, *belonging: object) -> Position:
        """Where the next page begins; raises PageTokenInvalid."""
        payload = self._unseal(token, belonging)
        return Position(payload[_SEARCH.size :].decode(), *_SEARCH.unpack_from(payload))

    def _seal(self, payload: bytes, belonging: Sequence[object]) -> str:
        return base64.urlsafe_b64encode(self._digest(payload, belonging) + payload).rstrip(b"=").decode()

    def _unseal(self, token: str, belonging: Sequence[object]) -> bytes:
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise PageTokenInvalid from error
        digest, payload = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
        # Base64 has spare bits at the end: only the very text that was made is the token.
        if not hmac.compare_digest(digest, self._digest(payload, belonging)) or self._seal(payload, belonging) != token:
            raise PageTokenInvalid
        return payload

    def _digest(self, payload: bytes, belonging: Sequence[object]) -> bytes:
        digest = hashlib.blake2b(repr(tuple(belonging)).encode(), key=self._key, digest_size=_DIGEST_BYTES)
        digest.update(b"\0" + payload)
        return digest.digest()
