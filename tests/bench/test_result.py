"""Settings are checked; results survive JSON and give the same figures afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.cell import CONTROL
from bench.result import BenchResult, BenchSettings
from bench.statistics import Verdict
from pruning.errors import InputError
from tests.bench.fakes import fake_result


def test_result_survives_json() -> None:
    result = fake_result(candidates=2)
    assert BenchResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_every_figure_is_recomputed_from_the_samples() -> None:
    result = fake_result()
    again = BenchResult.from_dict(json.loads(json.dumps(result.to_dict())))
    cell = again.cells[0]
    assert again.comparison(cell, "candidate-1") == result.comparison(result.cells[0], "candidate-1")
    assert again.latency(cell, "baseline") == result.latency(result.cells[0], "baseline")


def test_known_ratios_are_found() -> None:
    result = fake_result(candidates=2)
    faster, same = (result.comparison(result.cells[0], model.key) for model in result.candidates)
    assert faster.ratio.value == pytest.approx(1.9, rel=0.02)
    assert (faster.verdict, same.verdict) == (Verdict.FASTER, Verdict.NO_DIFFERENCE)


def test_latency_holds_every_sample_of_the_headline_clock() -> None:
    result = fake_result()
    latency = result.latency(result.cells[0], CONTROL)
    assert (latency.clock, len(latency.samples_ms)) == ("wall", 120)


@pytest.mark.parametrize(("load", "loaded"), [(0.4, False), (2.5, True)])
def test_a_loaded_machine_is_noticed(load: float, loaded: bool) -> None:
    assert fake_result(load=load).loaded is loaded


def test_thread_clock_is_read_with_one_thread_only() -> None:
    assert [clock.name for clock in BenchSettings(threads=1).clocks] == ["wall", "thread"]
    assert [clock.name for clock in BenchSettings(threads=2).clocks] == ["wall"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"runtimes": ()}, "runtimes is empty"),
        ({"batches": ()}, "batches is empty"),
        ({"seqs": ()}, "seqs is empty"),
        ({"batches": (0,)}, "must be at least 1"),
        ({"threads": 0}, "must be at least 1"),
        ({"blocks": 1}, "at least two blocks; got 1"),
        ({"calls": 1}, "calls per block >= 2"),
        ({"warmup_seconds": -1.0}, "min_seconds"),
        ({"headline_clock": "thread", "threads": 2}, "thread needs threads=1"),
        ({"headline_clock": "sundial"}, "clock 'sundial'"),
    ],
)
def test_settings_refuse_what_cannot_be_measured(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchSettings(**bad)


def test_another_schema_is_refused() -> None:
    with pytest.raises(InputError, match="not a benchmark result of schema 2: its schema is 7"):
        BenchResult.from_dict({"schema": 7})


@pytest.mark.parametrize("key", ["settings", "models", "cells", "environment"])
def test_a_damaged_result_is_refused(key: str) -> None:
    data = fake_result().to_dict()
    del data[key]
    with pytest.raises(InputError, match="benchmark result is damaged"):
        BenchResult.from_dict(data)
