"""A stopped measurement keeps what it has and goes on; fresh processes bring the same kind of samples home."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bench import compare as session
from bench.cell import FULL, Cell
from bench.compare import measure, merge_cell, missing_in_process
from bench.contestants import name_models
from bench.inputs import input_batches
from bench.ladder import ladder_from_cell
from bench.paired import BlockPlan
from bench.process import Missing, ProcessJob, Watch
from bench.result import BenchResult, BenchSettings
from bench.worker import measure_in_fresh_process, read_job, write_job
from pruning.errors import InputError
from tests.bench.fakes import fake_result
from tests.tiny import tiny_tokenizer

QUICK = BenchSettings(seqs=(8,), blocks=3, calls=2, warmup_seconds=0.0)
TEXTS = {FULL: partial(input_batches, tiny_tokenizer(), ["the cat sat on the mat"])}


class Stop:
    """Progress that presses Ctrl-C after some steps, and the samples kept by then."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.kept: list[BenchResult] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        if done == self.after:
            raise KeyboardInterrupt


def stopped(models, settings: BenchSettings, after: int) -> BenchResult:
    stop = Stop(after)
    with pytest.raises(KeyboardInterrupt):
        measure(models, settings, {}, progress=stop, keep=stop.kept.append)
    return stop.kept[-1]


def test_an_interrupt_leaves_the_blocks_so_far_and_resume_adds_the_rest(dense: Path) -> None:
    models = name_models([dense, dense])
    settings = replace(QUICK, batches=(1, 2))
    part = stopped(models, settings, after=3 + 2)
    assert [cell.repetitions[0].blocks for cell in part.cells] == [2]
    assert missing_in_process(part, 0) == {
        ("ort-cpu", FULL, 1, 8): Missing(2),
        ("ort-cpu", FULL, 2, 8): Missing(0),
    }
    steps: list[int] = []
    whole = measure(models, settings, {}, previous=part, progress=lambda done, total, what: steps.append(total))
    assert [cell.repetitions[0].blocks for cell in whole.cells] == [3, 3]
    assert [cell.repetitions[0].restarts for cell in whole.cells] == [1, 0]
    first = whole.cells[0].repetitions[0].samples_ms["wall"]["baseline"]
    assert first[:2] == part.cells[0].repetitions[0].samples_ms["wall"]["baseline"]
    assert steps == [3 + 1 + 3 + 3] * 10


def test_a_finished_measurement_is_not_repeated_but_can_be_extended(dense: Path) -> None:
    models = name_models([dense, dense])
    done = measure(models, QUICK, {})
    assert measure(models, QUICK, {}, previous=done).cells == done.cells
    more = measure(models, replace(QUICK, blocks=4), {}, previous=done)
    assert more.cells[0].repetitions[0].blocks == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [({"calls": 5}, "its calls differ, 2 then, 5 now"), ({"seed": 1}, "its seed differ"), ({"threads": 2}, "threads")],
)
def test_another_measurement_is_not_continued(dense: Path, change: dict[str, int], message: str) -> None:
    models = name_models([dense, dense])
    part = stopped(models, QUICK, after=4)
    with pytest.raises(InputError, match=message):
        measure(models, replace(QUICK, **change), {}, previous=part)


def test_changed_models_or_inputs_are_not_continued(dense: Path, shallow: Path) -> None:
    part = stopped(name_models([dense, dense]), QUICK, after=4)
    with pytest.raises(InputError, match="its models differ"):
        measure(name_models([dense, shallow]), QUICK, {}, previous=part)
    with pytest.raises(InputError, match="its inputs differ"):
        measure(part.models, QUICK, TEXTS, previous=part)


def test_cells_measured_on_other_inputs_are_not_merged() -> None:
    cell = fake_result().cells[0]
    with pytest.raises(InputError, match="measured before with other inputs or precisions"):
        merge_cell([cell], replace(cell, dtypes=dict.fromkeys(cell.dtypes, "int8")), 0)


def test_every_process_adds_a_repetition(monkeypatch: pytest.MonkeyPatch, dense: Path) -> None:
    jobs: list[ProcessJob] = []
    template = fake_result().cells[0]

    def fake_process(job: ProcessJob, watch: Watch) -> None:
        jobs.append(job)
        for runtime, workload, batch, seq in job.missing:
            watch.cell(replace(template, runtime=runtime, workload=workload, batch=batch, seq=seq))

    monkeypatch.setattr(session, "measure_in_fresh_process", fake_process)
    models = name_models([dense, dense])
    result = measure(models, replace(QUICK, processes=3, blocks=30, calls=4), {})
    assert [len(cell.repetitions) for cell in result.cells] == [3]
    assert [job.plan for job in jobs] == [BlockPlan(30, 4, seed) for seed in range(3)]
    monkeypatch.undo()
    assert measure(models, result.settings, {}, previous=result).cells == result.cells


def test_a_refusal_in_a_fresh_process_is_the_same_line(dense: Path) -> None:
    models = name_models([dense, dense])
    job = ProcessJob(models, replace(QUICK, seqs=(99,)), 0, {("ort-cpu", FULL, 1, 99): Missing(0)}, {})
    with pytest.raises(InputError, match="sequence length 99 is beyond the 40 positions"):
        measure_in_fresh_process(job, Watch(lambda step: None, lambda cell: None))


def test_a_fresh_process_measures_real_text_and_hands_over_its_blocks_when_interrupted(dense: Path) -> None:
    models = name_models([dense, dense])
    cells: list[Cell] = []
    steps: list[str] = []

    def press(step: str) -> None:
        steps.append(step)
        if len(steps) == 5:
            raise KeyboardInterrupt

    settings = replace(QUICK, blocks=20_000, processes=2)
    job = ProcessJob(models, settings, 1, {("ort-cpu", FULL, 1, 8): Missing(1)}, TEXTS)
    with pytest.raises(KeyboardInterrupt):
        measure_in_fresh_process(job, Watch(press, cells.append))
    assert steps[4] == "ort-cpu, batch 1, sequence 8: block 3 of 20000"
    assert 2 <= cells[0].repetitions[0].blocks < 20_000


def test_a_process_that_dies_is_named(monkeypatch: pytest.MonkeyPatch, dense: Path) -> None:
    monkeypatch.setattr("bench.worker.sys.executable", "/bin/false")
    job = ProcessJob(name_models([dense, dense]), QUICK, 0, {("ort-cpu", FULL, 1, 8): Missing(0)}, {})
    with pytest.raises(InputError, match="ended with exit code 1: it said nothing"):
        measure_in_fresh_process(job, Watch(lambda step: None, lambda cell: None))


def test_a_job_survives_its_folder(dense: Path, tmp_path: Path) -> None:
    job = ProcessJob(name_models([dense, dense]), QUICK, 2, {("ort-cpu", FULL, 2, 8): Missing(1)}, TEXTS)
    write_job(job, tmp_path)
    again = read_job(tmp_path)
    assert replace(again, sources={}) == replace(job, sources={})
    for before, after in zip(TEXTS[FULL](2, 8), again.sources[FULL](2, 8), strict=True):
        assert {name: x.tolist() for name, x in before.items()} == {name: x.tolist() for name, x in after.items()}


def test_a_candidate_can_have_a_precision_of_its_own(dense: Path) -> None:
    models = name_models([dense, dense, dense], runtimes=["torch-cpu", "torch-cpu", None], dtypes=[None, "bf16", None])
    assert [model.label for model in models] == ["dense @ torch-cpu", "dense @ torch-cpu bf16", "dense"]
    result = measure(models, replace(QUICK, runtimes=("torch-cpu",)), {})
    assert [result.cells[0].dtypes[key] for key in ("baseline", "control", "candidate-1", "candidate-2")] == [
        "fp32", "fp32", "bf16", "fp32"
    ]  # fmt: skip
    assert "precision fp32 → bf16" in ladder_from_cell(result, result.cells[0])[1].changed
    assert BenchResult.from_dict(result.to_dict()) == result


def test_a_candidate_can_have_a_runtime_of_its_own(dense: Path) -> None:
    result = measure(name_models([dense, dense], runtimes=["torch-cpu", None]), QUICK, {})
    assert result.cells[0].runtimes == {"baseline": "torch-cpu", "control": "torch-cpu", "candidate-1": "ort-cpu"}
    assert [model.label for model in result.models] == ["dense @ torch-cpu", "dense"]
