"""The ladder multiplies up to the total and names what changed; metrics and published points are read or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.frontier import Quality, read_metrics, read_published
from bench.ladder import ladder_from_cell, require_ladder
from bench.report.bench_report import Extras, html_from_result, markdown_from_result
from bench.report.console import console_from_ladder
from bench.result import BenchResult
from pruning.errors import InputError
from tests.bench.fakes import fake_result
from tests.bench.test_report import Page, shown

PUBLISHED = """system,method,task,metric,value,speedup,measured_on
Other,hybrid,SST-2,accuracy,90.4,1.8,GPU
Other,unmeasured,SST-2,accuracy,90.4,,GPU
Other,hybrid,MNLI,accuracy,83.0,2.1,GPU
Other,hybrid,SQuAD,F1,88.0,2.4,GPU
"""


def climbed() -> BenchResult:
    """Dense in another runtime, then dense, then pruned: the candidates of the fake swapped."""
    result = fake_result(candidates=2)
    cells = tuple(replace(cell, runtimes={**cell.runtimes, "baseline": "torch-cpu"}) for cell in result.cells)
    dense, pruned = result.models[2], result.models[1]
    return replace(result, models=(result.baseline, dense, pruned), cells=cells)


def test_steps_multiply_up_to_the_total() -> None:
    result = climbed()
    rungs = ladder_from_cell(result, result.cells[0])
    assert [rung.step is None for rung in rungs] == [True, False, False]
    product = rungs[1].step.ratio.value * rungs[2].step.ratio.value
    assert product == pytest.approx(rungs[2].total.ratio.value, rel=0.02)
    assert rungs[2].total == result.comparison(result.cells[0], "candidate-1")


def test_every_rung_says_what_changed() -> None:
    result = climbed()
    first, runtime, pruning = (rung.changed for rung in ladder_from_cell(result, result.cells[0]))
    assert first == "start"
    assert runtime == "runtime torch-cpu → ort-cpu"
    assert pruning.startswith("pruning, 2.")
    same = replace(result, models=(result.baseline, result.models[1], result.models[1]))
    assert ladder_from_cell(same, result.cells[0])[2].changed == "another file of the same architecture"
    back = replace(result, models=(*result.models, replace(result.models[1], key="candidate-2")))
    assert ladder_from_cell(back, result.cells[0])[3].changed.startswith("another shape, 2.")


def test_the_ladder_is_in_every_report() -> None:
    result, extras = climbed(), Extras(ladder=True)
    page = html_from_result(result, extras)
    Page(page)
    for text in (page, markdown_from_result(result, extras), shown(console_from_ladder(result))):
        assert "torch-cpu → ort-cpu" in text
    assert "What each step gives" not in html_from_result(result)


def test_one_candidate_is_no_ladder() -> None:
    with pytest.raises(InputError, match="--ladder needs at least two candidates"):
        require_ladder(fake_result())


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_metrics_are_read_by_label_or_path(tmp_path: Path) -> None:
    models = fake_result().models
    path = write(tmp_path, "model,metric,value\ndense,accuracy,0.91\nmodels/candidate-1,accuracy,0.9\n")
    assert read_metrics(path, models) == Quality("accuracy", "", {"baseline": 0.91, "candidate-1": 0.9})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,value\ndense,1\n", "lacks the columns metric"),
        ("model,metric,value\nother,accuracy,1\n", "names other; measured were: dense, compact"),
        ("model,metric,value\n", "names no model"),
        ("model,metric,value\ndense,accuracy,high\n", "value must be a number; got 'high'"),
        ("model,metric,value\ndense,accuracy,1\ndense,f1,1\n", "several metrics or tasks"),
    ],
)
def test_metrics_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_metrics(write(tmp_path, text), fake_result().models)
    with pytest.raises(InputError, match="cannot be read"):
        read_metrics(tmp_path / "missing.csv", fake_result().models)


def test_published_points_of_the_same_metric_and_task_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path, PUBLISHED)
    points = read_published(path, Quality("Accuracy", "sst-2", {}))
    assert [str(point) for point in points] == ["Other, hybrid: 90.4 at 1.8x"]
    assert len(read_published(path, Quality("accuracy", "", {}))) == 2
    with pytest.raises(InputError, match="no row with a speedup for recall"):
        read_published(path, Quality("recall", "", {}))


def test_the_frontier_shows_measured_and_published_points(tmp_path: Path) -> None:
    quality = Quality("accuracy", "SST-2", {"baseline": 0.91, "candidate-1": 0.90})
    points = read_published(write(tmp_path, PUBLISHED), quality)
    page = html_from_result(fake_result(), Extras(quality=quality, published=points))
    Page(page)
    assert "Accuracy against speedup" in page
    assert "Other, published" in page
    assert "Other, hybrid: 90.4 at 1.8x" in page


def test_metrics_are_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('[{"model": "dense", "metric": "accuracy", "value": 0.91, "task": null}]')
    assert read_metrics(path, fake_result().models) == Quality("accuracy", "", {"baseline": 0.91})
    for text, message in (("{}", "must be a JSON list"), ('[{"model": 1}]', "each with model"), ("", "cannot be read")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_metrics(path, fake_result().models)
