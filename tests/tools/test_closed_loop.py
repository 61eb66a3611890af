"""The loop on fake machines: the measured speedup is a known function of the one that was asked for."""

import pytest

from pruning.errors import InputError
from tools.closed_loop import MOST_ROUNDS, Round, best_round, next_request, require_reachable


def rounds_on(machine, requested, reachable=100.0):
    """The loop as a run makes it; ``machine`` tells what a request measures."""
    rounds = []
    while (asked := next_request(requested, rounds, reachable)) is not None:
        rounds.append(made(asked, machine(asked)))
    return rounds


def made(asked, measured):
    return Round(asked, asked, measured, measured * 0.99, measured * 1.01)


@pytest.mark.parametrize(
    ("machine", "count"),
    [
        (lambda x: x, 1),
        (lambda x: 1.3 * x, 1),
        (lambda x: 0.98 * x, 1),
        (lambda x: 0.8 * x, 2),
        (lambda x: x**0.7, 3),
        (lambda x: 0.9 * x**0.8, 3),
    ],
)
@pytest.mark.parametrize("requested", [1.5, 2.0, 3.0])
def test_the_request_is_measured_after_a_few_rounds(machine, count, requested):
    rounds = rounds_on(machine, requested)
    assert rounds[-1].reaches(requested)
    assert rounds[0].asked == requested
    assert len(rounds) <= count
    assert best_round(requested, rounds) == len(rounds) - 1


def test_a_missing_share_is_asked_for_and_then_a_secant_is_followed():
    first, second = made(2.0, 1.6), made(2.5, 1.8)
    assert next_request(2.0, [first], 100) == pytest.approx(2.0 * 2.0 / 1.6)
    slope = 0.5278358
    assert next_request(2.0, [first, second], 100) == pytest.approx(2.5 * (2.0 / 1.8) ** (1 / slope), rel=1e-5)


@pytest.mark.parametrize("measured", [1.5, 1.6, 1.601])
def test_noise_between_two_rounds_does_not_run_away(measured):
    asked = next_request(2.0, [made(2.0, 1.6), made(2.5, measured)], 100)
    assert asked == pytest.approx(2.5 * (2.0 / measured) ** 2)


def test_a_machine_that_gets_no_faster_ends_the_loop():
    rounds = rounds_on(lambda x: 1.2, 2.0)
    assert len(rounds) == MOST_ROUNDS
    assert not rounds[-1].reaches(2.0)


def test_the_smallest_model_is_asked_for_once():
    rounds = rounds_on(lambda x: 0.5 * x, 2.0, reachable=2.5)
    assert [x.asked for x in rounds] == [2.0, 2.5]
    with pytest.raises(InputError, match=r"2 is out of reach: the largest that was measured is 1.25 \(30% of the time"):
        require_reachable(2.0, rounds, 2.5, "30% of the time is fixed")


def test_what_reaches_the_request_is_not_out_of_reach():
    require_reachable(2.0, [made(2.5, 2.0)], 2.5, "")
    require_reachable(2.0, [made(2.0, 1.5)], 2.5, "")


def test_the_slowest_model_that_is_fast_enough_lost_least():
    assert best_round(2.0, [made(2.0, 1.5), made(2.6, 2.4), made(2.3, 2.1)]) == 2
    assert best_round(2.0, [made(2.0, 1.5), made(2.6, 1.7), made(2.3, 1.6)]) == 1


def test_a_round_is_made_of_ratios():
    with pytest.raises(InputError, match="speedups above 0"):
        Round(2.0, 2.0, 0.0, 0.0, 1.0)
    with pytest.raises(InputError, match="inside its interval"):
        Round(2.0, 2.0, 2.0, 2.1, 2.2)
