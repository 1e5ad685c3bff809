"""The model of inputs: types before constraints, all constraints at once, and vectors without a loop."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.api import requests
from neve.api.limits import LIMITS
from neve.api.model import inputs
from neve.api.service import EXTENSIONS, OPERATIONS
from neve.api.shapes import TAG_PATTERN, VIOLATIONS_MAX, decode
from neve.errors import Malformed, ValidationFailed

INPUTS = inputs(LIMITS["aws"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def put(components: object) -> np.ndarray:
    request = decode(INPUTS["PutVectors"], {"vectors": [{"key": "a", "data": {"float32": components}}]})
    return request.vectors[0].data


def test_every_operation_has_an_input() -> None:
    assert set(INPUTS) == {*OPERATIONS, *EXTENSIONS}
    assert len(OPERATIONS) == 22


@given(st.sampled_from(sorted(INPUTS)), st.data())
def test_any_members_are_a_request_or_a_modelled_error(operation: str, data: st.DataObject) -> None:
    names = [name for name, *_ in INPUTS[operation].members]
    members = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=3), json_values, max_size=4))
    try:
        request = decode(INPUTS[operation], members)
    except Malformed:
        return
    except ValidationFailed as error:
        refusal = error
    else:
        assert type(request).__name__ == operation
        return
    assert refusal.message.startswith(f"{len(refusal.fields)} validation error")


@pytest.mark.parametrize("number", [5, 5.0, np.int64(5)])
def test_a_number_without_fraction_is_an_integer(number: object) -> None:
    request = decode(INPUTS["ListVectorBuckets"], {"maxResults": number})
    assert request == requests.ListVectorBuckets(max_results=5)
    assert type(request.max_results) is int


def test_unknown_members_are_ignored_and_null_is_absent() -> None:
    request = decode(INPUTS["GetVectors"], {"keys": ["a"], "returnData": None, "colour": "blue"})
    assert request == requests.GetVectors(keys=("a",))


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ([0.1, 1, -2.5], [0.1, 1, -2.5]),
        ([10**30, 2**70, 1], [1e30, 2.0**70, 1]),
        ([1e39, -1e39, 1e-46, 3.4028235e38], [np.inf, -np.inf, 0, 3.4028235e38]),
        (["NaN", "Infinity", "-Infinity", 1], [np.nan, np.inf, -np.inf, 1]),
        (np.array([0.1, 2], np.float64), [0.1, 2]),
        (np.array([1, 2], np.int8), [1, 2]),
        ((0.5, np.float32(0.1), np.float64(0.1)), [0.5, 0.1, 0.1]),
        ([1e-45, 5e-324], [1e-45, 0]),
        ([], []),
    ],
)
def test_components_are_rounded_to_float32(components: object, expected: list[float]) -> None:
    with np.errstate(all="ignore"):
        wanted = np.array(expected, np.float32)
    found = put(components)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


def test_a_vector_is_a_copy() -> None:
    mine = np.ones(3, np.float32)
    found = put(mine)
    mine[:] = 7
    assert found.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "components",
    [
        ["nan"],
        [True],
        [1, False],
        [None],
        [[1]],
        {"0": 1},
        "1",
        np.ones((2, 2)),
        np.array([True]),
        np.array(["1"]),
        [10**400],
    ],
    ids=repr,
)
def test_what_is_no_number_is_malformed(components: object) -> None:
    with pytest.raises(Malformed):
        put(components)


def test_a_full_put_decodes_without_a_loop_over_components() -> None:
    row = [0.1234567] * 4096
    members = {"vectors": [{"key": str(n), "data": {"float32": row}} for n in range(500)]}
    started = time.process_time()
    decode(INPUTS["PutVectors"], members)
    assert time.process_time() - started < 1.0  # 2 million components: a loop in Python takes longer


def test_violations_are_bounded() -> None:
    with pytest.raises(ValidationFailed) as caught:
        decode(INPUTS["GetVectors"], {"keys": [""] * 1_000_000})
    assert len(caught.value.fields) == VIOLATIONS_MAX


def test_lone_surrogates_are_malformed() -> None:
    for members in ({"vectorBucketName": "\ud800"}, {"vectorBucketName": "new", "tags": {"\udfff": ""}}):
        with pytest.raises(Malformed):
            decode(INPUTS["CreateVectorBucket"], members)


@pytest.mark.parametrize("text", ["", "Ünï-cödé 12", "a_.:/=+-@z", "漢字\u2028\u00a0", "Ⅷ²"])
def test_tag_characters(text: str) -> None:
    assert TAG_PATTERN.accepts(text)


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a,b", "#", "😀", "e\u0301"])
def test_characters_that_no_tag_has(text: str) -> None:
    assert not TAG_PATTERN.accepts(text)


def test_profiles_differ_only_upwards() -> None:
    aws, wide = LIMITS["aws"], LIMITS["wide"]
    assert all(getattr(wide, name) >= getattr(aws, name) for name in type(aws).__dataclass_fields__)
    request = {"indexName": "new", "dataType": "float32", "dimension": 16_384, "distanceMetric": "cosine"}
    assert decode(inputs(wide)["CreateIndex"], request).dimension == 16_384
    with pytest.raises(ValidationFailed):
        decode(INPUTS["CreateIndex"], request)
