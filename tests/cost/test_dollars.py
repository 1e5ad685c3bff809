"""What operations cost in dollars: counted requests at list prices, and those of the hosted service beside them."""

from __future__ import annotations

import math

import pytest
from scripts.benchmarks import prices
from scripts.benchmarks.costs import put_dollars

from tests.compacting import short_calibrations
from tests.cost.world import World


def test_a_million_warm_queries_are_three_gets_each() -> None:
    world = World()
    world.first.put(["a"])
    world.first.store.new_bill()
    world.first.index.read()
    assert world.first.store.new_bill().dollars * 1e6 == pytest.approx(1.2)


def test_a_million_puts_are_a_put_and_two_gets_each() -> None:
    world = World()
    world.first.index.read()
    world.first.store.new_bill()
    world.first.put(["a"])
    assert world.first.store.new_bill().dollars * 1e6 == pytest.approx(5.8)


@pytest.mark.parametrize("rows", [1, 100])
def test_upkeep_is_less_than_one_request_a_put(rows: int) -> None:
    """256 puts, 3 requests each; then folds (when, depends on threads), a compaction of what they left, collection."""
    with short_calibrations():
        dollars, each = put_dollars(rows)
    assert 3.3 < each < 3.9
    assert 5.8 < dollars * 1e6 < 9


def test_the_hosted_service_charges_a_query_by_the_size_of_its_index() -> None:
    kilobyte = 1_000.0
    assert prices.hosted_query(0, kilobyte) == 2.50e-6
    assert math.isclose(prices.hosted_query(100_000, kilobyte), 2.50e-6 + 0.1e9 * 0.004e-12)
    most = 0.1e9 * 0.004e-12 + 9.9e9 * 0.002e-12
    assert math.isclose(prices.hosted_query(10_000_000, kilobyte), 2.50e-6 + most)
    assert math.isclose(prices.hosted_query(11_000_000, kilobyte), 2.50e-6 + most + 1e9 * 0.0004e-12)


def test_the_hosted_service_charges_small_puts_as_larger_ones() -> None:
    assert prices.hosted_put(1) == prices.hosted_put(128 << 10) == (128 << 10) * 0.20e-9
    assert math.isclose(prices.hosted_put(1e6), 0.20e-3)


def test_a_function_is_charged_for_its_memory_and_its_time() -> None:
    assert math.isclose(prices.invocation(0.5, 2048), 0.20e-6 + 1.0 * 0.0000166667)
