"""Experiments as people see them, on given numbers."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from bench.experiments.cold_start import ColdStart, ColdStartResult, ColdStartRow, FileCache
from bench.experiments.load import Fate, LoadPoint, LoadResult, Outcome, QueueRules
from bench.experiments.results import Experiments
from bench.experiments.throughput import ThroughputCurve, ThroughputPoint, ThroughputResult
from bench.profiling.breakdown import ModelProfile, ProfiledCall, ProfileResult, Work, operator_times
from bench.profiling.places import Part, Place
from bench.report.bench_report import html_from_result, markdown_from_result
from bench.report.console import console_from_result
from bench.report.experiment_tables import ReportTable, tables_from_experiments
from bench.report.experiments_report import (
    console_from_experiments,
    html_from_experiments,
    markdown_from_experiments,
    tables_from_result,
)
from tests.bench.fakes import fake_result

KEYS = ("baseline", "candidate-1")
LABELS = {"baseline": "dense", "candidate-1": "com|pact <b>"}


def curve(key: str, *milliseconds: float) -> ThroughputCurve:
    points = (ThroughputPoint(2**index, 128, ((ms, ms),) * 3) for index, ms in enumerate(milliseconds))
    return ThroughputCurve(key, tuple(points))


def profile(key: str, scale: float) -> ModelProfile:
    work_ms = {
        Work("bert.encoder.layer.0.intermediate.dense/MatMul", "MatMul", Place(Part.FFN, 0)): 4 * scale,
        Work("bert.encoder.layer.1.attention.self.query/MatMul", "MatMul", Place(Part.ATTENTION, 1)): 3 * scale,
        Work("bert.encoder.layer.1.output.LayerNorm/LN", "LN", Place(Part.NORMS, 1)): 1.0,
        Work("bert.pooler.dense/MatMul", "MatMul", Place(Part.HEAD)): 0.5,
        Work("attention_mask/Cast", "Cast", Place(Part.ATTENTION)): 0.25,
    }
    return ModelProfile(key, operator_times([ProfiledCall(sum(work_ms.values()) + 0.25, work_ms)]))


def load_point(key: str, answers: int, dropped: int, share: float | None) -> LoadPoint:
    outcomes = [Outcome(index / 10, Fate.ANSWERED, 20.0) for index in range(answers)]
    outcomes += [Outcome((answers + index) / 10, Fate.QUEUE_FULL, None) for index in range(dropped)]
    return LoadPoint(key, 10.0, share, tuple(outcomes), busy_s=answers / 20, batches=answers)


def cold_row(key: str, cache: FileCache, peak: int | None) -> ColdStartRow:
    return ColdStartRow(key, cache, 90_000_000, (ColdStart(2.0, 0.25, 0.05, 0.02, 100_000_000, peak),))


POINTS = (load_point(KEYS[0], 150, 50, 0.5), load_point(KEYS[1], 19, 0, None))
STARTS = (cold_row(KEYS[0], FileCache.WARM, 300_000_000), cold_row(KEYS[1], FileCache.DROPPED, None))
EXPERIMENTS = Experiments(
    throughput=(ThroughputResult("ort-cpu", 128, (curve(KEYS[0], 10, 20, 40), curve(KEYS[1], 5, 9, 15))),),
    load=(LoadResult("ort-cpu", 128, QueueRules(), 50.0, POINTS),),
    cold_start=(ColdStartResult("ort-cpu", 1, 128, STARTS),),
    profile=(ProfileResult("ort-cpu", 1, 128, (profile(KEYS[0], 1.0), profile(KEYS[1], 0.5))),),
)
LAYERS, OPERATORS, THROUGHPUT, LOAD, COLD = tables_from_experiments(EXPERIMENTS, LABELS)


def row_of(table: ReportTable, first: str) -> tuple[str, ...]:
    return next(row for row in table.rows if row[0] == first)


@pytest.mark.parametrize("table", [LAYERS, OPERATORS, THROUGHPUT, LOAD, COLD])
def test_every_row_fits_its_columns(table: ReportTable) -> None:
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_layers_show_the_candidate_beside_the_baseline_and_sum_to_the_total() -> None:
    assert row_of(LAYERS, "layer 1") == ("layer 1", "", "4.00 → 2.00", "", "", "4.00 → 2.00")
    assert row_of(LAYERS, "layer 2")[1:] == ("3.00 → 1.50", "", "1.00 → 1.00", "", "4.00 → 2.50")
    assert row_of(LAYERS, "head")[-1] == "0.50 → 0.50"
    assert row_of(LAYERS, "outside operators")[-1] == "0.25 → 0.25"
    assert row_of(LAYERS, "total")[1:] == ("3.00 → 1.50", "4.00 → 2.00", "1.00 → 1.00", "", "9.00 → 5.50")
    sums = [float(row[-1].split(" → ")[0]) for row in LAYERS.rows[:-1] if row[-1]]
    assert sum(sums) == pytest.approx(9.0)


def test_operators_come_with_their_shares_the_largest_first() -> None:
    assert OPERATORS.rows[0] == ("MatMul", "7.50 ms", "83.3 %", "4.00 ms", "72.7 %", "3.50 ms")
    assert row_of(OPERATORS, "total")[1:] == ("9.00 ms", "100.0 %", "5.50 ms", "100.0 %", "3.50 ms")


def test_an_operator_that_got_slower_saves_less_than_nothing() -> None:
    result = ProfileResult("ort-cpu", 1, 8, (profile(KEYS[0], 0.5), profile(KEYS[1], 1.0)))
    table = tables_from_experiments(Experiments(profile=(result,)), LABELS)[1]
    assert row_of(table, "total")[-1] == "-3.50 ms"


def test_throughput_names_the_best_batch_and_says_if_the_sweep_was_cut_short() -> None:
    first, second = THROUGHPUT.rows[:2]
    assert first == ("1", "dense", "100.0", "12.8 k", "", "best")
    assert second[4].startswith("2.00x")
    assert THROUGHPUT.rows[-1][-1] == "best"
    assert "com|pact <b> at its best does 2.67 times the tokens of dense at its best" in THROUGHPUT.note
    assert "less than 5 % for: com|pact <b>." in THROUGHPUT.note


def test_percentiles_are_shown_only_where_samples_suffice() -> None:
    assert LOAD.rows[0] == ("10.0/s (50 %)", "dense", "200", "20.0 ms", "20.0 ms", "-", "25.0 %", "38 %")
    assert LOAD.rows[1][:6] == ("10.0/s", "com|pact <b>", "19", "-", "-", "-")
    batched = replace(EXPERIMENTS.load[0], rules=QueueRules(max_batch=8, max_delay_ms=5))
    (table,) = tables_from_experiments(Experiments(load=(batched,)), LABELS)
    assert "batches of up to 8, formed within 5 ms" in table.note


def test_cold_starts_say_where_the_files_were() -> None:
    assert COLD.rows[0][1:] == (
        "in memory", "90.0 MB", "250 ms", "50.0 ms", "300 ms", "20.0 ms", "300.0 MB", "200.0 MB",
    )  # fmt: skip
    assert COLD.rows[1][1] == "on disk"
    assert COLD.rows[1][-2:] == ("-", "-")


def test_all_reports_hold_all_tables() -> None:
    result = replace(fake_result(), experiments=EXPERIMENTS.to_dict())
    page, text = html_from_experiments(result), markdown_from_experiments(result)
    stream = StringIO()
    Console(file=stream, width=160).print(console_from_experiments(result))
    for table in tables_from_result(result):
        title = table.title.partition(":")[0]
        assert title in page
        assert title in text
        assert title in stream.getvalue()
    assert "<script" not in page
    assert "| layer 2 | 3.00 → 1.50 |" in text


def test_names_cannot_break_a_table() -> None:
    result = replace(fake_result(), experiments=EXPERIMENTS.to_dict())
    models = (result.models[0], replace(result.models[1], label=LABELS["candidate-1"]))
    result = replace(result, models=models)
    assert "com|pact &lt;b&gt;" in html_from_experiments(result)
    assert r"com\|pact &lt;b&gt;" in markdown_from_experiments(result)


def test_experiments_stand_in_the_benchmark_s_own_reports() -> None:
    result = replace(fake_result(), experiments=EXPERIMENTS.to_dict())
    alone = replace(result, cells=())
    for made in (html_from_result, markdown_from_result):
        assert "Response time under load" in made(result)
        assert "verdict" in made(result)
        assert "Response time under load" in made(alone)
        assert "verdict" not in made(alone)
    for shown in (result, alone):
        stream = StringIO()
        Console(file=stream, width=160).print(console_from_result(shown))
        assert "Cold start" in stream.getvalue()
