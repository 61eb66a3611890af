"""A grid of trials as points with bars, and the page that shows it."""

import pytest

from bench.report.sweep_report import html_from_sweep, markdown_from_sweep
from bench.sweep import Bar, Sweep, SweepPoint, TrialResult, interval_bar, mean_bar
from pruning.errors import InputError


def trial(method="oneshot", requested=2.0, seed=0, speedup=2.0, metric=0.88):
    return TrialResult(method, requested, seed, Bar(speedup, speedup - 0.1, speedup + 0.2), interval_bar(metric, 0.01))


REFUSED = TrialResult("drop", 9.0, 0, refused="a speedup of 9 is | out of reach")
SWEEP = Sweep(
    "accuracy",
    872,
    interval_bar(0.9, 0.01),
    "ort-cpu, batch 1 on <Abacus>",
    (
        trial(),
        trial(seed=1, speedup=1.9, metric=0.86),
        trial(requested=3.0, speedup=3.1),
        trial("drop", 1.5, 0, 1.4),
        REFUSED,
    ),
)


def test_a_point_is_the_mean_of_its_seeds_and_its_bar_holds_theirs():
    first, second, third = SWEEP.points
    assert first == SweepPoint("oneshot", 2.0, 2, first.speedup, first.metric)
    assert (first.speedup.value, first.speedup.low, first.speedup.high) == pytest.approx((1.95, 1.8, 2.2))
    assert (first.metric.value, first.metric.low, first.metric.high) == pytest.approx((0.87, 0.8404, 0.8996))
    assert [(x.method, x.requested, x.seeds) for x in (second, third)] == [("oneshot", 3.0, 1), ("drop", 1.5, 1)]
    assert SWEEP.refused == (REFUSED,)


def test_the_mean_of_bars_reaches_from_end_to_end():
    assert mean_bar([Bar(1.0, 0.9, 1.1), Bar(2.0, 1.5, 2.2)]) == Bar(1.5, 0.9, 2.2)


def test_trials_are_plain_data():
    for one in SWEEP.trials:
        assert TrialResult.from_dict(one.to_dict()) == one
    with pytest.raises(InputError, match=r"not the result of a trial: 'metric' is missing"):
        TrialResult.from_dict({"method": "drop", "requested": 2, "seed": 0, "speedup": None})


def test_a_value_lies_in_its_bar():
    with pytest.raises(InputError, match="must lie between the ends of its bar"):
        Bar(1.0, 1.1, 1.2)
    assert interval_bar(0.5, None) == Bar(0.5, 0.5, 0.5)


def test_the_page_shows_every_point_both_bars_and_what_was_refused():
    text, page = (write(SWEEP, "slimbert frontier x") for write in (markdown_from_sweep, html_from_sweep))
    row = "| oneshot | 2x | 1.95x (1.80 to 2.20) | 87.0 % (84.0 % to 90.0 %) | -3.0 points | 2 |"
    assert row in text
    assert r"- drop at 9x, seed 0 was refused: a speedup of 9 is \| out of reach" in text
    assert '<td class="num strong">1.95x (1.80 to 2.20)</td>' in page
    assert "accuracy against measured speedup of oneshot, drop" in page
    assert "&lt;Abacus&gt;" in page
    assert "<script" not in page
    for word in ("dense", "oneshot", "drop"):
        assert f">{word}</text>" in page
    assert html_from_sweep(SWEEP, "slimbert frontier x") == page


def test_a_grid_without_a_measured_model_still_has_a_page():
    nothing = Sweep("accuracy", 10, Bar(0.5, 0.4, 0.6), "nowhere", (REFUSED,))
    assert nothing.points == ()
    assert "of no method" in html_from_sweep(nothing, "x")
