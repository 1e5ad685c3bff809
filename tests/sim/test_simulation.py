"""The simulator itself: time, scheduling, faults, and the same run for the same seed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from neve.errors import StoreUnavailable
from neve.runtime import Instant
from neve.store.port import Created, Exists, Failed, Found, Get, List, Listed, Put, PutNew, Reply, Unknown
from neve.testing.faults import CALM, ROUGH, FaultPlan
from neve.testing.simulation import START_S, Process, Simulation, Stuck


def counter_of(process: Process, rounds: int) -> Callable[[], None]:
    """A task that numbers objects, racing with whoever does the same."""

    def work() -> None:
        number = 0
        for _ in range(rounds):
            reply, _ = process.store.wave([PutNew(f"log/{number:06d}", process.name.encode()), Get("hint")])
            number += reply in (Created(), Exists())
            process.runtime.sleep(process.runtime.uniform(0, 2))

    return work


def run_counters(seed: int, faults: FaultPlan) -> tuple[list[str], list[str]]:
    with Simulation(seed, faults, trace=True) as simulation:
        for number in range(4):
            process = simulation.process(f"p{number}", clock_offset_s=900.0 * number)
            process.start(counter_of(process, 40))
        simulation.run(hours=48)
        assert simulation.trace is not None
        return simulation.trace, simulation.objects.all_keys()


def test_the_same_seed_is_the_same_run() -> None:
    assert run_counters(11, ROUGH) == run_counters(11, ROUGH)


def test_another_seed_is_another_run() -> None:
    assert run_counters(11, ROUGH) != run_counters(12, ROUGH)


def test_a_create_succeeds_once_and_requests_of_a_wave_land_in_any_order() -> None:
    orders: Counter[tuple[type[Reply], type[Reply]]] = Counter()
    for seed in range(60):
        with Simulation(seed) as simulation:
            process = simulation.process("p")
            replies: list[Reply] = []

            def work(process: Process = process, replies: list[Reply] = replies) -> None:
                replies.extend(process.store.wave([PutNew("a", b"1"), PutNew("a", b"2")]))

            simulation.join([process.start(work)])
            orders[type(replies[0]), type(replies[1])] += 1
    assert set(orders) == {(Created, Exists), (Exists, Created)}


def test_virtual_hours_cost_nothing() -> None:
    began = time.perf_counter()
    with Simulation(1) as simulation:
        process = simulation.process("sleeper")
        task = process.start(lambda: process.runtime.sleep(3600.0 * 24 * 365))
        simulation.join([task], hours=24 * 366)
        assert simulation.now_s == START_S + 3600 * 24 * 365
    assert time.perf_counter() - began < 5


def test_ten_thousand_requests_a_second() -> None:
    """The floor that makes thousands of seeds affordable; a small machine does ten times that."""
    with Simulation(1, ROUGH) as simulation:
        for number in range(8):
            process = simulation.process(f"p{number}")
            process.start(counter_of(process, 500))
        began = time.process_time()
        simulation.run(hours=2000)
        assert simulation.requests / (time.process_time() - began) > 10_000


def test_wall_clocks_are_off_and_the_stores_clock_is_its_own() -> None:
    with Simulation(3) as simulation:
        readings: list[Instant] = []
        process = simulation.process("early", clock_offset_s=-3600)

        def work() -> None:
            readings.append(process.runtime.now())
            process.store.wave([Put("a", b"")])
            process.runtime.sleep(100)
            readings.append(process.runtime.now())

        simulation.join([process.start(work)])
        assert readings[0].wall_s == START_S - 3600
        assert 100 <= readings[0].until(readings[1]) < 101
        stored = simulation.objects.get("a")
        assert stored is not None
        assert 0 < abs(stored.modified_s - START_S) <= 3601


def test_a_frozen_process_notices_by_some_clock() -> None:
    stood_still = set()
    for seed in range(40):
        with Simulation(seed, FaultPlan(freeze=1.0, freeze_s=(7200, 7200))) as simulation:
            readings: list[Instant] = []
            process = simulation.process("p")

            def work(process: Process = process, readings: list[Instant] = readings) -> None:
                readings.append(process.runtime.now())
                process.store.wave([Get("a"), Get("b")])
                readings.append(process.runtime.now())

            simulation.join([process.start(work)])
            before, after = readings
            assert 7200 <= before.until(after) < 7201
            stood_still.add((after.wall_s - before.wall_s > 7000, after.monotonic_s - before.monotonic_s > 7000))
    assert stood_still == {(True, True), (True, False), (False, True)}


def test_a_frozen_process_sends_the_rest_of_its_wave_after_the_thaw() -> None:
    splits: Counter[str] = Counter()
    for seed in range(60):
        with Simulation(seed, FaultPlan(freeze=1.0, freeze_s=(7200, 7200))) as simulation:
            process = simulation.process("p")
            simulation.join([process.start(lambda p=process: p.store.wave([Put("a", b""), Put("b", b"")]))])
            first, second = (simulation.objects.get(key) for key in ("a", "b"))
            assert first is not None
            assert second is not None
            apart_s = second.modified_s - first.modified_s
            splits["a first" if apart_s > 7000 else "b first" if apart_s < -7000 else "together"] += 1
    assert min(splits["a first"], splits["b first"], splits["together"]) > 5


def test_a_killed_process_does_nothing_more_and_its_late_requests_land() -> None:
    with Simulation(5) as simulation:
        process = simulation.process("doomed")
        steps: list[str] = []
        deaths: list[str] = []
        process.on_death = lambda: deaths.append("died")

        def work() -> None:
            try:
                process.store.wave([Put("sent", b"")])
                steps.append("reply")
            finally:
                process.store.wave([Put("from the grave", b"")])

        task = process.start(work)
        simulation.at(START_S + 0.0001, process.kill)
        simulation.run(hours=1)
        assert task.over
        simulation.close()
        assert (steps, deaths, simulation.objects.all_keys()) == ([], ["died"], ["sent"])


def test_an_unanswered_create_is_unknown_and_may_land_hours_later() -> None:
    with Simulation(6, FaultPlan(late=1.0)) as simulation:
        process = simulation.process("p")
        replies: list[Reply] = []
        simulation.join(
            [process.start(lambda: replies.extend(process.store.wave([PutNew("a", b"1"), Put("b", b"2")])))]
        )
        assert isinstance(replies[0], Unknown)
        assert isinstance(replies[1], Failed)
        assert isinstance(replies[1].error, StoreUnavailable)
        assert simulation.objects.all_keys() == []
        simulation.run(hours=7)
        assert simulation.objects.all_keys() == ["a", "b"]


@pytest.mark.parametrize(
    ("faults", "landed"),
    [(FaultPlan(lost_reply=1.0), True), (FaultPlan(lost_request=1.0), False)],
)
def test_lost_replies_landed_and_lost_requests_did_not(faults: FaultPlan, landed: bool) -> None:
    with Simulation(7, faults) as simulation:
        process = simulation.process("p")
        replies: list[Reply] = []
        simulation.join([process.start(lambda: replies.extend(process.store.wave([PutNew("a", b"1")])))])
        assert isinstance(replies[0], Unknown)
        simulation.run(hours=24)
        assert (simulation.objects.get("a") is not None) is landed


def test_refusals_are_told_and_not_done() -> None:
    with Simulation(8, FaultPlan(unavailable=1.0)) as simulation:
        process = simulation.process("p")
        replies: list[Reply] = []
        simulation.join([process.start(lambda: replies.extend(process.store.wave([PutNew("a", b"1"), List("")])))])
        assert all(isinstance(reply, Failed) for reply in replies)
        simulation.run(hours=24)
        assert simulation.objects.all_keys() == []


def test_damaged_bodies_differ_and_the_object_does_not() -> None:
    with Simulation(9, FaultPlan(cut=0.5, flipped=0.5)) as simulation:
        process = simulation.process("p")
        replies: list[Reply] = []

        def work() -> None:
            process.store.wave([Put("a", b"0123456789")])
            replies.extend(process.store.wave([Get("a")] * 50))

        simulation.join([process.start(work)])
        bodies = [reply.body for reply in replies if isinstance(reply, Found)]
        assert len(bodies) == 50
        assert b"0123456789" not in bodies
        assert {len(body) == 10 for body in bodies} == {True, False}
        stored = simulation.objects.get("a")
        assert stored is not None
        assert stored.body == b"0123456789"


def test_tasks_of_a_process_wait_for_each_others_signals() -> None:
    with Simulation(10) as simulation:
        process = simulation.process("p")
        signal = process.runtime.signal()
        order: list[str] = []

        def waiter() -> None:
            signal.wait()
            order.append("woken")

        def setter() -> None:
            process.runtime.sleep(50)
            order.append("set")
            signal.set()
            signal.wait()

        process.runtime.spawn(setter)
        simulation.join([process.start(waiter)])
        assert order == ["set", "woken"]


def test_waiting_for_nothing_is_stuck() -> None:
    with Simulation(11) as simulation:
        process = simulation.process("p")
        task = process.start(process.runtime.signal().wait)
        with pytest.raises(Stuck, match="p/1 still waiting"):
            simulation.join([task])


def test_an_error_of_a_task_ends_the_run_and_a_background_error_of_the_engine_does_not() -> None:
    def unavailable() -> None:
        raise StoreUnavailable("no")

    def bug() -> None:
        raise KeyError("bug")

    with Simulation(12) as simulation:
        process = simulation.process("p")
        process.runtime.spawn(unavailable)
        simulation.run(hours=1)
        process.runtime.spawn(bug)
        with pytest.raises(KeyError, match="bug"):
            simulation.run(hours=1)


def test_faults_can_end() -> None:
    with Simulation(13, FaultPlan(lost_request=1.0)) as simulation:
        process = simulation.process("p")
        replies: list[Reply] = []
        simulation.join([process.start(lambda: replies.extend(process.store.wave([List("")])))])
        simulation.set_faults(CALM)
        simulation.join([process.start(lambda: replies.extend(process.store.wave([List("")])))])
        assert isinstance(replies[0], Failed)
        assert replies[1] == Listed((), complete=True)


def test_the_stores_times_are_off_by_no_more_than_the_plan_says() -> None:
    with Simulation(14, FaultPlan(store_clock_error_s=450)) as simulation:
        process = simulation.process("p")
        simulation.join([process.start(lambda: process.store.wave([Put(f"{n:03d}", b"") for n in range(200)]))])
        times = [stored.modified_s for key in simulation.objects.all_keys() if (stored := simulation.objects.get(key))]
        assert 600 < max(times) - min(times) <= 901
