"""The open loop on a fake clock: who waits, who is dropped, and from when it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from bench.experiments.load import (
    Fate,
    LoadPoint,
    Outcome,
    QueueRules,
    Rate,
    TimeSource,
    poisson_arrivals,
    serve_open_loop,
)
from pruning.errors import InputError

TEN = Rate(10.0, relative=False)


@dataclass
class FakeServer:
    """A clock that moves only when someone sleeps or is served; a batch takes ``fixed + per_request * size``."""

    fixed_s: float
    per_request_s: float = 0.0
    now_s: float = 100.0
    served: list[list[int]] = field(default_factory=list)

    @property
    def clock(self) -> TimeSource:
        return TimeSource(lambda: self.now_s, self._pass)

    def serve(self, requests: Sequence[int]) -> None:
        self.served.append(list(requests))
        self._pass(self.fixed_s + self.per_request_s * len(requests))

    def _pass(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def run(server: FakeServer, arrivals: Sequence[float], rules: QueueRules | None = None) -> LoadPoint:
    return serve_open_loop("model", TEN, arrivals, server.serve, rules or QueueRules(), server.clock)


def fates(point: LoadPoint) -> list[Fate]:
    return [outcome.fate for outcome in point.outcomes]


def test_a_response_counts_from_the_arrival() -> None:
    """Three requests at once to a server of 1 s: the third waits for two others. A closed loop would say 1 s thrice."""
    point = run(FakeServer(1.0), [1.0, 1.0, 1.0])
    assert point.responses_ms == pytest.approx([1000, 2000, 3000])
    assert (point.busy_s, point.batches, point.dropped_share) == (pytest.approx(3.0), 3, 0.0)
    assert point.busy_share == pytest.approx(3 / 4)


def test_an_idle_server_answers_at_once() -> None:
    point = run(FakeServer(0.25), [1.0, 2.0, 3.5])
    assert point.responses_ms == pytest.approx([250] * 3)
    assert point.offered_per_second == pytest.approx(3 / 3.5)


def test_who_finds_the_queue_full_is_dropped() -> None:
    point = run(FakeServer(1.0), [0.5, 0.6, 0.7, 0.8, 2.6], QueueRules(queue_limit=2))
    assert fates(point) == [Fate.ANSWERED, Fate.ANSWERED, Fate.ANSWERED, Fate.QUEUE_FULL, Fate.ANSWERED]
    assert point.dropped_share == pytest.approx(1 / 5)


def test_who_waits_too_long_is_dropped_when_the_turn_comes() -> None:
    point = run(FakeServer(1.0), [0.0, 0.1, 0.2], QueueRules(timeout_s=1.5))
    assert fates(point) == [Fate.ANSWERED, Fate.ANSWERED, Fate.TIMED_OUT]
    assert point.outcomes[2].response_ms is None


def test_waiting_requests_are_answered_together() -> None:
    server = FakeServer(1.0, 0.1)
    point = run(server, [0.0, 0.2, 0.3, 0.4], QueueRules(max_batch=2))
    assert server.served == [[0], [1, 2], [3]]
    assert point.responses_ms == pytest.approx([1100, 2100, 2000, 3000])
    assert point.batches == 3


def test_a_full_batch_does_not_wait_and_a_partial_one_waits_for_its_delay() -> None:
    server = FakeServer(1.0)
    rules = QueueRules(max_batch=3, max_delay_ms=500)
    point = run(server, [1.0, 1.1, 1.2, 10.0, 10.6], rules)
    assert server.served == [[0, 1, 2], [3], [4]]
    assert point.responses_ms == pytest.approx([1200, 1100, 1000, 1500, 1900])


def test_mean_wait_agrees_with_queueing_theory() -> None:
    """M/D/1 at 70 %: mean wait in the queue is rho / (2 (1 - rho)) service times."""
    arrivals = poisson_arrivals(70.0, 600.0, seed=3)
    point = run(FakeServer(0.01), arrivals, QueueRules(queue_limit=10**6, timeout_s=1e6))
    assert np.mean(point.responses_ms) == pytest.approx(10 + 10 * 0.7 / (2 * 0.3), rel=0.05)
    assert point.busy_share == pytest.approx(0.7, rel=0.03)


def test_arrivals_are_poisson() -> None:
    arrivals = np.array(poisson_arrivals(50.0, 400.0, seed=1))
    gaps = np.diff(arrivals)
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert arrivals[-1] < 400.0
    assert poisson_arrivals(50.0, 400.0, seed=1) == tuple(arrivals)
    assert len(poisson_arrivals(0.01, 0.001, seed=1)) == 1


@pytest.mark.parametrize(
    ("answers", "percent", "given"), [(19, 50, False), (20, 50, True), (99, 90, False), (100, 90, True),
                                      (999, 99, False), (1000, 99, True)],
)  # fmt: skip
def test_a_percentile_needs_ten_slower_answers(answers: int, percent: float, given: bool) -> None:
    outcomes = tuple(Outcome(float(index), Fate.ANSWERED, 1.0) for index in range(answers))
    assert (LoadPoint("model", 1.0, None, outcomes, 1.0, 1).percentile_ms(percent) is not None) is given


def test_rates_are_absolute_or_a_share() -> None:
    assert Rate(0.5, relative=True).per_second(80.0) == 40.0
    assert Rate(12.0, relative=False).per_second(80.0) == 12.0
    assert [str(Rate(0.5, relative=True)), str(Rate(12.0, relative=False))] == ["50%", "12/s"]


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan"), float("inf")])
def test_a_rate_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="a rate of arrivals must be positive"):
        Rate(value, relative=False)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="arrivals need a positive rate and time; got 5/s for 0 s"):
        poisson_arrivals(5.0, 0.0, seed=0)
    with pytest.raises(InputError, match="got 0, 0, 1000 and 10"):
        QueueRules(max_batch=0)
