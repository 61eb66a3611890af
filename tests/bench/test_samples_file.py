"""The samples file is read back whole, or refused in one line; two of them are compared by their speedups."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.regression import differences, ratio_of, regression_from_results
from bench.result import BenchResult
from bench.samples_file import read_samples, require_samples_or_nothing, write_samples
from bench.statistics import RatioInterval, Verdict
from pruning.errors import InputError
from tests.bench.fakes import fake_cell, fake_repetition, fake_result


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    result = fake_result(candidates=2, processes=3)
    write_samples(tmp_path / "bench.json", result)
    assert read_samples(tmp_path / "bench.json") == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a samples file: invalid JSON"),
        ('{"schema": 2,', "not a samples file: invalid JSON"),
        ("[1]", "it holds list, not a JSON object"),
        ('{"schema": 1}', "its schema is 1. Measure again"),
        ('{"speed": "fast"}', "its schema is None"),
        ('{"schema": 2, "settings": {}}', "damaged"),
    ],
)
def test_a_broken_or_foreign_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_samples(path)
    with pytest.raises(InputError, match="would be overwritten, and it is no samples file"):
        require_samples_or_nothing(path)
    assert path.read_text() == text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path / "bench.json")
    require_samples_or_nothing(tmp_path / "bench.json")


def test_samples_that_do_not_pair_up_are_refused() -> None:
    data = json.loads(json.dumps(fake_result().to_dict()))
    data["cells"][0]["repetitions"][0]["samples_ms"]["wall"]["baseline"].pop()
    with pytest.raises(InputError, match=r"cells.0.repetitions.0: .*samples must pair up"):
        BenchResult.from_dict(data)


def slowed(result: BenchResult, factor: float) -> BenchResult:
    """The same measurement on another day, its candidate slower by a factor."""
    cells = []
    for cell in result.cells:
        repetition = fake_repetition(22.0, cell.contestants, 0.03, 0.0, seed=77)
        samples = {
            clock: {
                key: tuple(tuple(x * (factor if key == "candidate-1" else 1) for x in block) for block in blocks)
                for key, blocks in by_key.items()
            }
            for clock, by_key in repetition.samples_ms.items()
        }
        cells.append(fake_cell(cell.batch, (replace(repetition, samples_ms=samples),)))
    return replace(result, cells=tuple(cells))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, Verdict.NO_DIFFERENCE), (1.3, Verdict.SLOWER), (0.7, Verdict.FASTER)]
)
def test_a_slower_candidate_is_found(factor: float, verdict: Verdict) -> None:
    old = fake_result()
    found = regression_from_results(old, slowed(old, factor))
    assert {change.verdict for change in found.changes} == {verdict}
    assert len(found.slower) == (2 if verdict is Verdict.SLOWER else 0)
    assert found.changes[0].comparison.ratio.value == pytest.approx(1 / factor, rel=0.05)
    assert (found.missing, found.differences) == ((), ())


def test_what_differs_is_named() -> None:
    old = fake_result(candidates=2)
    machine = replace(old.environment, cpu="Other CPU", versions={**old.environment.versions, "torch": "2.14.0"})
    new = replace(fake_result(cells=1), environment=machine)
    found = regression_from_results(old, new)
    assert "cpu: Example CPU @ 2.90GHz then, Other CPU now" in found.differences
    assert "versions torch: 2.13.0 then, 2.14.0 now" in found.differences
    assert "settings: batches: (1, 8) then, (1,) now" in found.differences
    assert "other <b>, ort-cpu, batch 8, sequence 128: only in the old file" in found.missing
    assert differences(old, old) == []


def test_files_without_a_common_cell_are_refused() -> None:
    result = fake_result()
    other = replace(result, cells=(replace(result.cells[0], seq=64),))
    with pytest.raises(InputError, match="share no candidate in any cell"):
        regression_from_results(result, other)


def test_the_quotient_of_two_ratios_has_the_length_of_both_intervals() -> None:
    one = RatioInterval(2.0, 2.0 / 1.03, 2.0 * 1.04)
    found = ratio_of(one, RatioInterval(1.0, 1 / 1.05, 1.02))
    assert found.value == pytest.approx(2.0)
    assert np.log(found.value / found.low) == pytest.approx(np.hypot(np.log(1.03), np.log(1.02)))
    assert np.log(found.high / found.value) == pytest.approx(np.hypot(np.log(1.04), np.log(1.05)))
