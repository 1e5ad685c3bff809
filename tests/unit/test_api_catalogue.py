"""Every refusal of the catalogue has its exact code, message and fields, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.catalogue import BROKEN_BODIES, CASES, SETUP, BrokenBody, Case
from tests.unit.api_calls import Calls, calls_on


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    calls = calls_on()
    for operation, members in SETUP:
        calls(operation, **members)
    before = _everything(calls)
    yield calls
    # Once for all cases: a refusal that changed anything shows here, whichever it was.
    assert _everything(calls) == before
    calls.runtime.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusal(calls: Calls, case: Case) -> None:
    fault = calls.refused(case.operation, case.members)
    assert (fault.code, fault.status, fault.message) == (case.code, case.status, case.message)
    assert [(field.path, field.message) for field in fault.fields] == list(case.fields)


@pytest.mark.parametrize("broken", BROKEN_BODIES, ids=lambda broken: broken.name)
def test_broken_body(calls: Calls, broken: BrokenBody) -> None:
    fault = calls.refused(broken.operation, broken.body)
    assert (fault.code, fault.status, fault.fields) == ("SerializationException", 400, ())


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def _everything(calls: Calls) -> list[object]:
    buckets = calls("ListVectorBuckets")
    shown: list[object] = [buckets]
    for bucket in buckets["vectorBuckets"]:
        name, arn = bucket["vectorBucketName"], bucket["vectorBucketArn"]
        shown += [calls("GetVectorBucket", vectorBucketName=name), calls("ListTagsForResource", resourceArn=arn)]
        for index in calls("ListIndexes", vectorBucketName=name)["indexes"]:
            arn = index["indexArn"]
            shown += [calls("GetIndex", indexArn=arn), calls("ListTagsForResource", resourceArn=arn)]
            shown.append(calls("ListVectors", indexArn=arn, returnData=True, returnMetadata=True))
    return shown
