"""The checker condemns every kind of wrong history, and none that an order explains."""

from __future__ import annotations

import math

import pytest

from tests.sim.history import SOMETHING, Change, History, Outcome, Violation


class Story:
    """A history told in few words; times are seconds."""

    def __init__(self) -> None:
        self.history = History()

    def put(self, begun: float, ended: float, outcome: Outcome = Outcome.DONE, **values: str | None) -> Change:
        change = self.history.begin(f"w{len(self.history.changes)}", begun, values)
        if not math.isinf(ended):
            change.end(outcome, ended)
        return change

    def read(self, begun: float, ended: float, fresh: float = math.nan, **values: str | None) -> None:
        self.history.observe(f"r{len(self.history.observations)}", begun, ended, values, fresh)

    def is_right(self) -> None:
        self.history.check()

    def is_wrong(self, words: str) -> None:
        with pytest.raises(Violation, match=words):
            self.history.check()


@pytest.fixture
def story() -> Story:
    return Story()


def test_reads_during_a_write_see_either(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(10, 20, k="b")
    story.read(12, 13, k="a")
    story.read(14, 15, k="b")
    story.is_right()


def test_a_lost_acknowledged_write(story: Story) -> None:
    story.put(0, 1, k="a")
    story.read(2, 3, k=None)
    story.is_wrong("lacks k = a")


def test_a_stale_read(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(2, 3, k="b")
    story.read(4, 5, k="a")
    story.is_wrong("had replaced")


def test_a_bounded_read_may_be_stale_but_not_older_than_its_bound(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(2, 3, k="b")
    story.read(4, 5, fresh=2.5, k="a")
    story.is_right()
    story.read(10, 11, fresh=3.5, k="a")
    story.is_wrong("had replaced")


def test_a_refused_write_that_shows(story: Story) -> None:
    story.put(0, 1, Outcome.REFUSED, k="a")
    story.read(2, 3, k="a")
    story.is_wrong("refused")


def test_a_value_from_nowhere(story: Story) -> None:
    story.read(2, 3, k="a")
    story.is_wrong("nobody wrote")


def test_a_value_before_its_time(story: Story) -> None:
    story.put(5, 6, k="a")
    story.read(2, 3, k="a")
    story.is_wrong("before w0 began")


def test_an_unknown_write_happens_late_or_never(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(2, 3, Outcome.UNKNOWN, k="b")
    story.put(4, math.inf, k="c")
    story.read(10, 11, k="a")
    story.read(12, 13, k="b")
    story.read(14, 15, k="c")
    story.is_right()


def test_an_unknown_write_that_was_seen_is_not_unseen(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(2, 3, Outcome.UNKNOWN, k="b")
    story.read(4, 5, k="b")
    story.read(6, 7, k="a")
    story.is_wrong("had replaced")


def test_a_deleted_value_that_comes_back(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(2, 3, k=None)
    story.read(4, 5, k="a")
    story.is_wrong("had replaced")


def test_a_delete_explains_absence_only_if_it_may_come_after(story: Story) -> None:
    story.put(0, 5, k=None)
    story.put(4, 6, k="a")
    story.read(7, 8, k=None)
    story.is_right()
    story.put(9, 10, k="b")
    story.read(11, 12, k=None)
    story.is_wrong("lacks k = b")


def test_an_unknown_delete_may_still_come(story: Story) -> None:
    story.put(0, 1, Outcome.UNKNOWN, k=None)
    story.put(2, 3, k="a")
    story.read(4, 5, k=None)
    story.is_right()


def test_a_refused_delete_explains_nothing(story: Story) -> None:
    story.put(0, 1, k="a")
    story.put(2, 3, Outcome.REFUSED, k=None)
    story.read(4, 5, k=None)
    story.is_wrong("lacks k = a")


def test_half_a_write(story: Story) -> None:
    story.put(0, 1, j="a", k="a")
    story.put(2, math.inf, j="b", k="b")
    story.read(3, 4, j="b", k="a")
    story.is_wrong("had replaced")


def test_half_a_first_write(story: Story) -> None:
    story.put(2, math.inf, j="b", k="b")
    story.read(3, 4, j="b", k=None)
    story.is_wrong("lacks k = b")


def test_a_read_of_two_states(story: Story) -> None:
    """j was written after k's second value was acknowledged: who sees j sees that, even while all are concurrent."""
    story.put(0, 1, k="a")
    story.put(2, 3, k="b")
    story.put(4, 5, j="c")
    story.read(1.5, 6, j="c", k="a")
    story.is_wrong("had replaced")


def test_concurrent_writes_in_any_order(story: Story) -> None:
    story.put(0, 10, k="a")
    story.put(0, 10, k="b")
    story.read(11, 12, k="a")
    story.is_right()


def test_something_where_something_may_be(story: Story) -> None:
    story.put(0, 1, k="a")
    story.read(2, 3, k=SOMETHING)
    story.put(4, 6, k=None)
    story.read(5, 7, k=SOMETHING)
    story.is_right()
    story.read(8, 9, k=SOMETHING)
    story.is_wrong("nobody can have made")
