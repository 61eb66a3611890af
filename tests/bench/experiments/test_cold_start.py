"""Cold starts: turns and medians on given numbers, and one real fresh process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.experiments import cold_start
from bench.experiments.cold_start import (
    ColdStart,
    ColdStartRow,
    ColdStartTask,
    FileCache,
    count_starts,
    repeat_starts,
    set_file_cache,
    start_process,
)
from bench.experiments.cold_start_child import answer_cold
from bench.inputs import random_batches
from pruning.errors import InputError
from tests.tiny import VOCAB


def fresh(load_s: float, peak: int | None = 300) -> ColdStart:
    return ColdStart(2.0, load_s, 0.5, 0.1, 100, peak)


def test_models_and_states_take_turns() -> None:
    seen: list[tuple[str, FileCache]] = []

    def start(path: Path, cache: FileCache) -> ColdStart:
        seen.append((path.name, cache))
        return fresh(float(len(seen)))

    models = ({"baseline": Path("a"), "candidate-1": Path("b")}, {"baseline": 7, "candidate-1": 5})
    steps = list(repeat_starts(*models, start, 2))
    rows = steps[-1]
    assert [count_starts(step) for step in steps] == list(range(1, 9))
    turn = [("a", FileCache.WARM), ("b", FileCache.WARM), ("a", FileCache.DROPPED), ("b", FileCache.DROPPED)]
    assert seen == turn * 2
    assert [(row.key, row.cache, row.file_bytes) for row in rows][:2] == [
        ("baseline", FileCache.WARM, 7),
        ("candidate-1", FileCache.WARM, 5),
    ]
    assert rows[0].median_s("load_s") == 3.0
    del seen[6:]
    assert list(repeat_starts(*models, start, 2, before=steps[5])) == steps[6:]
    assert seen == turn * 2


def test_memory_is_the_peak_and_what_the_model_added() -> None:
    row = ColdStartRow("baseline", FileCache.WARM, 7, (fresh(1.0, 300), fresh(1.0, 500), fresh(1.0, None)))
    assert (row.peak_resident_bytes, row.model_bytes) == (400, 300)
    unknown = ColdStartRow("baseline", FileCache.WARM, 7, (fresh(1.0, None),))
    assert (unknown.peak_resident_bytes, unknown.model_bytes) == (None, None)
    assert fresh(1.0).ready_s == 1.5


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="at least one repeat; got 0"):
        next(repeat_starts({}, {}, lambda path, cache: fresh(1.0), 0))
    with pytest.raises(InputError, match="needs at least one process"):
        ColdStartRow("baseline", FileCache.WARM, 7, ())


@pytest.mark.slow
def test_a_fresh_process_loads_and_answers(deployed: Path) -> None:
    batch = random_batches(len(VOCAB), 1, 8)[0]
    start = start_process("ort-cpu", 1, batch, deployed / "onnx" / "model.onnx", FileCache.WARM)
    assert min(start.imports_s, start.load_s, start.first_answer_s, start.second_answer_s) > 0
    assert start.peak_resident_bytes is None or start.peak_resident_bytes >= start.resident_before_bytes


def test_a_process_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_start, "CHILD_MODULE", "bench.no_such_module")
    with pytest.raises(InputError, match=r"could not load .*model.onnx in ort-cpu: .*no_such_module"):
        start_process("ort-cpu", 1, random_batches(9, 1, 4)[0], tmp_path / "model.onnx", FileCache.WARM)


def test_the_child_measures_in_order(dense: Path) -> None:
    for dtype in (None, "bf16"):
        task = ColdStartTask("torch-cpu", str(dense), 1, "", "", dtype)
        start = answer_cold(task, random_batches(len(VOCAB), 1, 8)[0], 1.25)
        assert start.imports_s == 1.25
        assert min(start.load_s, start.first_answer_s, start.second_answer_s) > 0
    with pytest.raises(ValueError, match="'fp7' is not a valid Precision"):
        answer_cold(ColdStartTask("torch-cpu", str(dense), 1, "", "", "fp7"), {}, 0.0)


def test_the_file_cache_is_set_for_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(b"123")
    for state in FileCache:
        set_file_cache(tmp_path, state)
        set_file_cache(tmp_path / "a.bin", state)
    assert (tmp_path / "a.bin").read_bytes() == b"123"
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="on Linux alone"):
        set_file_cache(tmp_path, FileCache.DROPPED)
