"""The frame of every object: what goes in comes out, and nothing else passes for it."""

from __future__ import annotations

import hashlib

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neve.errors import ObjectCorrupt, StoreForeign
from neve.store.envelope import ALIGNMENT_BYTES, intact, seal, unseal

SHAPES = arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5)
SECTIONS: st.SearchStrategy[dict[str, np.ndarray]] = st.dictionaries(
    st.text("abc_", min_size=1, max_size=8),
    st.one_of(
        arrays.arrays(np.dtype("<u8"), SHAPES),
        arrays.arrays(np.dtype("<f4"), SHAPES, elements=st.floats(width=32, allow_nan=False)),
        arrays.arrays(np.dtype("u1"), SHAPES),
    ),
    max_size=4,
)
FIELDS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "sections"), st.text(max_size=20) | st.integers(-(2**53), 2**53)
)


@settings(deadline=None)
@given(FIELDS, SECTIONS)
def test_what_goes_in_comes_out(fields: dict[str, str | int], sections: dict[str, np.ndarray]) -> None:
    body = seal(fields, sections)
    envelope = unseal("key", body)
    assert intact(body)
    assert dict(envelope.fields) == fields
    assert list(envelope.sections) == list(sections)
    for name, array in sections.items():
        found = envelope.sections[name]
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


def test_layout_is_as_specified() -> None:
    sections = {"one": np.arange(3, dtype="<u8"), "two": np.zeros((2, 2), "<f4")}
    body = seal({"id": "x"}, sections)
    first, second, _ = body.split(b"\n", 2)
    start = len(first) + len(second) + 2
    assert orjson.loads(first) == {
        "neve": 1,
        "blake2b": hashlib.blake2b(b"1\n" + body[56:], digest_size=16).hexdigest(),
    }
    assert len(first) + 1 == 56
    assert start % ALIGNMENT_BYTES == 0
    assert orjson.loads(second) == {"id": "x", "sections": {"one": ["<u8", [3], 0], "two": ["<f4", [2, 2], 64]}}
    assert body[start : start + 24] == np.arange(3, dtype="<u8").tobytes()
    assert len(body) == start + 128


def test_equal_input_gives_equal_bytes_and_other_input_others() -> None:
    assert seal({"a": 1}) == seal({"a": 1})
    assert seal({"a": 1}) != seal({"a": 2})


def test_sections_are_read_only_views_of_the_body() -> None:
    found = unseal("key", seal({}, {"one": np.arange(3)})).sections["one"]
    assert not found.flags.writeable
    assert not found.flags.owndata


@settings(deadline=None)
@given(FIELDS, st.data())
def test_any_changed_or_missing_byte_of_the_payload_is_noticed(
    fields: dict[str, str | int], data: st.DataObject
) -> None:
    body = seal(fields, {"one": np.arange(5)})
    place = data.draw(st.integers(56, len(body) - 1))
    wrong = bytearray(body)
    wrong[place] ^= data.draw(st.integers(1, 255))
    assert not intact(bytes(wrong))
    assert not intact(body[:place])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_corrupt_and_never_another_error(body: bytes) -> None:
    assert not intact(body)
    with pytest.raises(ObjectCorrupt):
        unseal("key", body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"neve":1}\n{}\n',
        b'{"blake2b":"00"}\n{}\n',
        b'["neve"]\n{}\n',
        b'{"neve":"1","blake2b":"00"}\n{}\n',
        b'{"neve":null,"blake2b":"00"}\n{}\n',
        b'{"neve":1,"blake2b":1}\n{}\n',
    ],
)
def test_first_lines_of_others_are_not_intact(body: bytes) -> None:
    assert not intact(body)


@pytest.mark.parametrize(
    "second",
    [
        b"[]",
        b'{"sections":{"a":["<u8",[9],0]}}',
        b'{"sections":{"a":["nonsense",[1],0]}}',
        b'{"sections":{"a":["O",[1],0]}}',
        b'{"sections":{"a":3}}',
        b'{"sections":7}',
    ],
)
def test_nonsense_with_a_right_checksum_is_corrupt(second: bytes) -> None:
    payload = second + b"\n"
    line = b'{"neve":1,"blake2b":"%s"}\n' % hashlib.blake2b(b"1\n" + payload, digest_size=16).hexdigest().encode()
    assert intact(line + payload)
    with pytest.raises(ObjectCorrupt, match="some/key"):
        unseal("some/key", line + payload)


def test_a_newer_version_is_foreign_whatever_follows() -> None:
    payload = b"\x00\xff"
    digest = hashlib.blake2b(b"12\n" + payload, digest_size=16).hexdigest()
    body = b'{"neve":12,"blake2b":"%s","new":"members"}\n' % digest.encode() + payload
    assert intact(body)
    with pytest.raises(StoreForeign, match="some/key is written in format 12; this version of neve reads up to 1"):
        unseal("some/key", body)


def test_no_flipped_bit_passes() -> None:
    """The version stands under the checksum too: one flipped bit makes a 1 a 0, 3, 5 or 9."""
    body = seal({"id": "x"}, {"a": np.arange(3, dtype=np.uint8)})
    for bit in range(8 * len(body)):
        wrong = bytearray(body)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not intact(bytes(wrong)), bit
